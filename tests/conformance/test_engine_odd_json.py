"""Whatever has passed the border, every engine store keeps, and goes on."""

from __future__ import annotations

from engine_bench import FN, Bench, function
from odd_json import Writer

from inngest.core.decisions.advance import advance
from inngest.core.decisions.draft import Call
from inngest.core.decisions.flow import partitions
from inngest.core.decisions.moment import Moment
from inngest.core.errors import InvalidEvent
from inngest.core.model.events import Event, accept, parse_body
from inngest.core.model.functions import Throttle
from inngest.core.model.runs import RunStatus
from inngest.core.model.transition import EndRun, SaveStep
from inngest.core.policy import MAX_LIMIT, MAX_PERIOD
from inngest.core.sdk.responses import Failure, Reported, read

SDK = {"x-inngest-sdk": "js:v4.24.0", "x-inngest-req-version": "2"}
SEEDS = range(25)


def report(writer: Writer) -> bytes:
    op = b'{"id":"%s","op":"%s","name":%b,"opts":{"input":[%b],"type":%b},"%s":%b,"timing":{"a":%b,"b":%b}}'
    return b"[%b]" % b",".join(
        op
        % (
            b"s%d" % place, kind, writer.text(), writer.any(), writer.text(), member, writer.any(),
            writer.scalar(), writer.scalar(),
        )
        for place, (kind, member) in enumerate(
            [(b"StepRun", b"data"), (b"StepFailed", b"error"), (b"StepRun", b"data")]
        )
    )  # fmt: skip


def given(writer: Writer, bench: Bench) -> Event | None:
    (inbound,) = parse_body(b'{"name":"a","data":%b}' % writer.object())
    try:
        return accept(inbound, f"event-{bench.serial()}", bench.now, 1 << 20)
    except InvalidEvent:
        return None


async def test_what_applications_report_is_kept_or_is_a_failed_attempt(engine: Bench) -> None:
    fn = function()
    await engine.register(fn)
    taken = 0
    for seed in SEEDS:
        writer = Writer(seed)
        event = given(writer, engine)
        events = [event.payload] if event is not None else [b'{"name":"a","data":{}}']
        run = await engine.create(events=events)
        leased = await engine.one()
        assert leased.run is not None
        assert leased.run.events == events
        answer = read(206, SDK, report(writer), engine.now)
        at = Moment(now=engine.now, new_id=lambda: f"id-{engine.serial()}")
        call = Call(started=engine.now, ended=engine.now)
        transition = advance(leased.run, fn, leased.item, answer, at, call=call)
        (committed,) = await engine.store.commit([transition])
        assert not committed.stale
        state = await engine.state(run.id)
        if isinstance(answer, Failure):  # the only attempt
            assert state is None
            continue
        assert isinstance(answer, Reported)
        assert state is not None
        effects = [effect for effect in transition.effects if isinstance(effect, SaveStep)]
        assert state.steps == {effect.step: effect.value for effect in effects}
        assert await engine.won(EndRun(status=RunStatus.COMPLETED), run=run.id) == [True]
        taken += 1
    assert len(SEEDS) / 3 < taken < len(SEEDS)


async def test_the_largest_limits_that_a_registration_may_have(engine: Bench) -> None:
    fn = function(
        limits=[MAX_LIMIT, MAX_LIMIT],
        run_limit=MAX_LIMIT,
        throttle=Throttle(limit=MAX_LIMIT, period=MAX_PERIOD, burst=MAX_LIMIT),
    )
    await engine.register(fn)
    assert (await engine.store.registry()).functions[FN] == fn
    start, work = partitions(fn, engine.event(), engine.now)
    for _ in range(3):
        await engine.create(engine.run(start=start, work=work))
        assert (await engine.one()).item.partition == start.id
