"""Registrations, as an SDK sends them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inngest.core.model.functions import (
    Function,
)
from inngest.core.sdk.registration import InvalidRegistration, parse_registration


def body(*functions: dict[str, Any], **top: Any) -> dict[str, Any]:
    return {
        "url": "http://127.0.0.1:3000/api/inngest",
        "deployType": "ping",
        "appName": "app",
        "sdk": "js:v4.24.0",
        "v": "0.1",
        "functions": list(functions),
        **top,
    }


def fn(id: str = "app-fn", **config: Any) -> dict[str, Any]:  # noqa: A002 -- the wire's name
    url = f"http://127.0.0.1:3000/api/inngest?fnId={id}&stepId=step"
    step = {"id": "step", "name": "step", "runtime": {"type": "http", "url": url}}
    return {"id": id, "name": "Fn", "triggers": [{"event": "app/x"}], "steps": {"step": step}, **config}


def parsed(**config: Any) -> Function:
    [function] = parse_registration(body(fn(**config))).functions
    return function


def refused(*functions: dict[str, Any], **top: Any) -> list[tuple[str, str, str]]:
    with pytest.raises(InvalidRegistration) as caught:
        parse_registration(json.dumps(body(*functions, **top)).encode())
    return [(problem.path, problem.message, problem.code) for problem in caught.value.problems]
