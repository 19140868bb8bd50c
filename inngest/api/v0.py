"""REST v0: what SDKs ask while a function runs (wire protocol sections 3.1 and 6.1)."""

from __future__ import annotations

import msgspec
from aiohttp import web

from inngest.api.answers import ApiError, raw_answer
from inngest.api.bodies import skip_body
from inngest.api.context import ApiContext
from inngest.api.operations import cancel_run, check_ulid, find_run
from inngest.core.model.runs import Run
from inngest.core.policy import MAX_TRACES


class RestV0:
    def __init__(self, ctx: ApiContext) -> None:
        self._ctx = ctx

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v0/runs/{id}/actions", self.actions),
            web.get("/v0/runs/{id}/batch", self.batch),
            web.delete("/v0/runs/{id}", self.cancel),
            web.post("/v0/telemetry", self.telemetry),
        ]

    async def actions(self, request: web.Request) -> web.Response:
        """The memoised steps of a run whose state is too large to be sent with a call."""
        run = await self._run(request)
        pairs = [b"%b:%b" % (msgspec.json.encode(step), run.steps[step]) for step in run.stack]
        return raw_answer(b"{%b}" % b",".join(pairs))

    async def batch(self, request: web.Request) -> web.Response:
        run = await self._run(request)
        return raw_answer(b"[%b]" % b",".join(run.events))

    async def _run(self, request: web.Request) -> Run:
        run = await find_run(self._ctx, check_ulid(request.match_info["id"], "run ID"))
        if run is None:
            raise ApiError(410, "runtime state is no longer available: the run has ended")
        return run

    async def cancel(self, request: web.Request) -> web.Response:
        await cancel_run(self._ctx, check_ulid(request.match_info["id"], "run ID"))
        return web.Response(status=204)

    async def telemetry(self, request: web.Request) -> web.Response:
        await skip_body(request, MAX_TRACES)
        return web.Response()
