"""Routes on a port, as a listener of the product serves them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from inngest.api.front import SERVER_OPTIONS, application
from inngest.api.pages import Pages
from inngest.core.policy import MAX_BODY


class FrontServer(TestServer):
    """Leaves to the front what the product's listener does."""

    async def start_server(self, *args: Any, **options: Any) -> None:
        await super().start_server(*args, **{**SERVER_OPTIONS, **options})


def client_of(
    routes: Iterable[web.AbstractRouteDef],
    *,
    max_body: int = MAX_BODY,
    dev: bool = True,
    hosts: Sequence[str] = (),
) -> TestClient[web.Request, web.Application]:
    """A client of these routes, to be started."""
    return TestClient(FrontServer(application(routes, pages=Pages(dev=dev, hosts=hosts), max_body=max_body)))
