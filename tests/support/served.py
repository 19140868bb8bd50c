"""Routes on a port, as a listener of the product serves them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from inngest.api.front import SERVER_OPTIONS, application
from inngest.core.policy import MAX_BODY


class FrontServer(TestServer):
    """Leaves to the front what the product's listener does."""

    async def start_server(self, *args: Any, **options: Any) -> None:
        await super().start_server(*args, **{**SERVER_OPTIONS, **options})


def client_of(
    routes: Iterable[web.AbstractRouteDef], *, max_body: int = MAX_BODY
) -> TestClient[web.Request, web.Application]:
    """A client of these routes, to be started."""
    return TestClient(FrontServer(application(routes, max_body=max_body)))
