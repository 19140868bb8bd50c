"""Steps that an application reports while its call goes on (wire protocol section 5.7)."""

from __future__ import annotations

from typing import Annotated, NoReturn

from aiohttp import web
from msgspec import Meta, Raw, Struct

from inngest.api.answers import ApiError, answer
from inngest.api.bodies import read_json
from inngest.api.context import ApiContext
from inngest.api.operations import check_ulid, find_run
from inngest.core.decisions.checkpoints import checkpoint
from inngest.core.decisions.steps import StepTooLarge
from inngest.core.model.runs import Run
from inngest.core.policy import MAX_JOB
from inngest.core.sdk.calls import dispatched
from inngest.core.sdk.responses import Step, read_steps

_STALE = "The call that reports was given up: its steps are run by another one"


class _Report(Struct):
    qi_id: Annotated[str, Meta(max_length=MAX_JOB)] = ""
    steps: Raw = Raw(b"[]")


class CheckpointApi:
    def __init__(self, ctx: ApiContext) -> None:
        self._ctx = ctx

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/checkpoint/{id}/async", self.report)]

    async def report(self, request: web.Request) -> web.Response:
        """Keep the steps, unless the call is not the one that the run is in any more."""
        ctx = self._ctx
        run_id = check_ulid(request.match_info["id"], "run ID")
        asked = await read_json(request, _Report)
        try:
            steps = read_steps(bytes(asked.steps))
        except ValueError as error:
            raise ApiError(400, f"Invalid steps: {error}") from None
        run = await find_run(ctx, run_id)
        if run is None:
            await self._gone(run_id)
        call = dispatched(asked.qi_id)
        item = await ctx.engine.item(run.fn, call.job)
        if item is None or item.run != run_id or call.epoch != item.epoch:
            raise ApiError(409, _STALE, code="stale_dispatch")
        self._check_limits(run, steps)
        at = ctx.moment()
        fn = ctx.registry.functions.get(run.fn)
        try:
            transition = checkpoint(
                run,
                item,
                steps,
                at,
                ms=ctx.lease,
                called=call.at,
                finish_timeout=fn.finish_timeout if fn is not None else 0,
            )
        except StepTooLarge as error:
            raise ApiError(413, str(error), code="output_too_large") from None
        except ValueError as error:
            raise ApiError(400, str(error)) from None
        (committed,) = await ctx.commit([transition])
        if committed.stale:
            raise ApiError(409, _STALE, code="stale_dispatch")
        return answer({"status": 200})

    async def _gone(self, run_id: str) -> NoReturn:
        if await self._ctx.data.run(run_id) is None:
            raise ApiError(404, "Run not found")
        raise ApiError(410, "The run has ended", code="run_ended")

    def _check_limits(self, run: Run, steps: list[Step]) -> None:
        # Refused here, the same steps come with the answer of the call, and end the run with its error.
        policy = self._ctx.limits.of(run.fn)
        new = {step.id: step for step in steps if step.id not in run.steps}
        size = run.size + sum(len(step.data) for step in new.values())
        if size > policy.max_state:
            raise ApiError(413, f"The run's state would be {size} bytes; {policy.max_state} are allowed")
        count = len(run.steps) + len(new)
        if count > policy.max_steps:
            raise ApiError(413, f"The run would have {count} steps; {policy.max_steps} are allowed")
