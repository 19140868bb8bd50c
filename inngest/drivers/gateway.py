"""The HTTP requests that steps leave to the server: ``step.fetch`` and ``step.ai.infer`` (wire protocol
section 5.6).
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec

from inngest.core.json import border
from inngest.core.json.jcs import InvalidJson
from inngest.core.json.surrogates import whole
from inngest.core.model.runs import Item
from inngest.core.policy import CALL_SECONDS
from inngest.core.sdk.responses import Op
from inngest.drivers.http import HttpClient, HttpError, HttpResponse, Redirects
from inngest.drivers.http.head import TOKEN
from inngest.drivers.http.target import Target
from inngest.ports.driver import GatewayReply

_encode = msgspec.json.Encoder().encode


class HttpGateway:
    """See `inngest.ports.driver.Gateway`. ``auth_key`` goes into the request and nowhere else."""

    def __init__(self, client: HttpClient, timeout: float = CALL_SECONDS) -> None:
        self._client = client
        self._timeout = timeout

    async def fetch(self, item: Item) -> GatewayReply:
        opts: dict[str, Any] = msgspec.json.decode(item.payload)
        inference = opts["op"] == Op.AI_GATEWAY
        try:
            response = await (self._infer(opts) if inference else self._fetch(opts))
        except (HttpError, ValueError) as error:
            what, name = ("AI", "AIGatewayError") if inference else ("gateway", "GatewayError")
            return GatewayReply(error=_error(name, f"Error making {what} request: {error}"))
        if not inference:
            return GatewayReply(value=_fetched(response, str(opts.get("url") or "")))
        if response.status > 299:
            text = response.body.decode("utf-8", "replace")
            message = f"Error making AI request: unsuccessful status code: {response.status}"
            return GatewayReply(error=_error("AIGatewayError", message, data=text, stack=text))
        try:
            return GatewayReply(value=_json(response.body))
        except InvalidJson as error:
            message = f"Error making AI request: the answer cannot be taken: {error}"
            return GatewayReply(error=_error("AIGatewayError", message))

    async def _fetch(self, opts: dict[str, Any]) -> HttpResponse:
        body = opts.get("body")
        return await self._client.request(
            str(opts.get("method") or "POST").upper(),
            str(opts.get("url") or ""),
            _headers(opts),
            body.encode() if isinstance(body, str) else b"" if body is None else _encode(body),
            timeout=self._timeout,
            redirects=Redirects.ANY,
        )

    async def _infer(self, opts: dict[str, Any]) -> HttpResponse:
        url = str(opts.get("url") or "")
        key = str(opts.get("auth_key") or "")
        headers = [("Content-Type", "application/json")]
        match opts.get("format"):
            case "anthropic":
                headers.append(("X-Api-Key", key))
            case "gemini":
                url = _with_key(url, key)
            case "bedrock":
                headers.append(("Authorization", key))
            case _:
                if key:
                    headers.append(("Authorization", f"Bearer {key}"))
        given = _headers(opts)
        own = {name.lower() for name, _ in given}
        headers = [(name, value) for name, value in headers if name.lower() not in own] + given
        return await self._client.request(
            "POST",
            url,
            headers,
            _encode(opts.get("body")),
            timeout=self._timeout,
            redirects=Redirects.SAME_ORIGIN,
        )


def _with_key(url: str, key: str) -> str:
    parts = urlsplit(url)
    query = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != "key"]
    return urlunsplit(parts._replace(query=urlencode([*query, ("key", key)])))


def _fetched(response: HttpResponse, asked: str) -> bytes:
    """What is told of a response; its URL is the one that was asked for, unless that was redirected."""
    return _encode(
        {
            "url": asked if response.url == Target.parse(asked).url else response.url,
            "status_code": response.status,
            "headers": dict(response.headers),
            "body": response.body.decode("utf-8", "replace"),
        }
    )


def _headers(opts: dict[str, Any]) -> list[tuple[str, str]]:
    """As they are sent: names in canonical MIME case (protocol additions 7)."""
    return [(_canonical(name), str(value)) for name, value in (opts.get("headers") or {}).items()]


def _canonical(name: str) -> str:
    """``x-api-key`` as ``X-Api-Key``. What is no name of a header stays as it is, to be refused."""
    if not TOKEN.fullmatch(name):
        return name
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))


def _json(body: bytes) -> bytes:
    """The answer as JSON text; what is not JSON becomes a string. Raises InvalidJson for JSON that cannot
    pass.
    """
    text = whole(body)
    try:
        border.load(text, "body")
    except InvalidJson:
        if border.is_json(text):
            raise
        return _encode(body.decode("utf-8", "replace"))
    return text


def _error(name: str, message: str, **more: str) -> bytes:
    return _encode({"error": f"{name}: {message}", "name": name, "message": message, **more})
