"""What an event starts: triggers, keys, limits, locks, pauses (wire protocol sections 2.3, 2.7 and 4)."""

from __future__ import annotations

from typing import Any

import pytest
from engine_rig import FN, NOW, Rig, event, function, op, ran

from inngest.core.decisions.flow import lock_key, partitions
from inngest.core.decisions.invocations import unknown_function
from inngest.core.decisions.matching import matches, trigger_names
from inngest.core.decisions.moment import Moment
from inngest.core.decisions.schedule import schedule
from inngest.core.decisions.starting import SkipReason
from inngest.core.model.events import FINISHED, INVOKED, Event
from inngest.core.model.functions import (
    Cancel,
    Concurrency,
    Debounce,
    Function,
    RateLimit,
    Singleton,
    Throttle,
    Trigger,
)
from inngest.core.model.history import What
from inngest.core.model.runs import Kind, PauseKind, RunStatus
from inngest.core.policy import MAX_PRIORITY
from inngest.core.sdk.responses import Op
from inngest.core.timing.times import DAY, YEAR

# -- triggers --


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("a/b.c", {"a/b.c", "a/*", "a/b.*"}),
        ("plain", {"plain"}),
        ("a/b/c", {"a/b/c", "a/*", "a/b/*"}),
        ("a.", {"a.", "a.*"}),
    ],
)
def test_names_that_match(name: str, names: set[str]) -> None:
    assert set(trigger_names(name)) == names


@pytest.mark.parametrize(
    ("expression", "data", "match"),
    [
        ("", {}, True),
        ("event.data.n > 3", {"n": 4}, True),
        ("event.data.n > 3", {"n": 3}, False),
        ("event.data.n", {"n": 0}, False),
        ("event.data.n", {"n": "text"}, True),
        ("event.data.missing.deeper == 1", {}, False),
        ("size(event.data.n) == date(event.data.n)", {"n": {}}, False),
    ],
)
def test_a_trigger_expression(expression: str, data: Any, match: bool) -> None:
    fn = function(triggers=[Trigger(event="app/go", expression=expression)])
    given = event(data=data)
    assert matches(fn, given, trigger_names(given.name), NOW, _ignored) is match


def test_any_trigger_will_do_and_crons_match_no_event() -> None:
    fn = function(triggers=[Trigger(cron="* * * * *"), Trigger(event="x"), Trigger(event="app/*")])
    assert matches(fn, event("app/any"), trigger_names("app/any"), NOW, _ignored)
    assert not matches(fn, event(""), trigger_names(""), NOW, _ignored)


def test_a_failing_expression_is_told_of_and_hides_no_other_trigger() -> None:
    failing = Trigger(event="app/go", expression="event.data.n / 0 > 1")
    told: list[tuple[str, str]] = []
    given = event(data={"n": 1})
    for more in ([], [Trigger(event="app/*")]):
        fn = function(triggers=[failing, *more])
        names = trigger_names(given.name)
        matched = matches(fn, given, names, NOW, lambda fn, source, _: told.append((fn.id, source)))
        assert matched is bool(more)
    assert told == [(FN, failing.expression)] * 2


def _ignored(*_: object) -> None: ...


# -- runs --


async def test_an_event_starts_a_run() -> None:
    rig = Rig(version=3)
    given = event(data={"a": 1}, external_id="mine")
    run = await rig.start(given)
    assert (run.fn, run.slug, run.app, run.function_version) == (FN, "app-fn", "app", 3)
    assert (run.events, run.event_ids, run.created) == ([given.payload], ["event-1"], NOW)
    (item,) = (await rig.items()).values()
    assert (item.kind, item.due, item.score, item.max_attempts) == (Kind.START, NOW, NOW, 5)
    (entry,) = await rig.history()
    assert entry.what is What.SCHEDULED
    assert entry.info == {"app": "app", "slug": "app-fn", "events": ["event-1"], "version": 3}


async def test_a_redelivered_event_starts_no_second_run() -> None:
    rig = Rig()
    first = await rig.start()
    await rig.commit(schedule(rig.fn, event(), rig.moment()))
    assert (await rig.store.stats()).runs == 1
    assert [entry.run for entry in await rig.history()] == [first.id]


async def test_an_id_that_its_sender_chose_is_used_once_for_its_window() -> None:
    rig = Rig()
    await rig.start(event(external_id="mine"))
    await rig.returned()
    rig.now += DAY - 1
    await rig.commit(schedule(rig.fn, event(external_id="mine", id="event-2"), rig.moment()))
    assert (await rig.store.stats()).runs == 0
    rig.now += 1
    await rig.commit(schedule(rig.fn, event(external_id="mine", id="event-3"), rig.moment()))
    assert (await rig.store.stats()).runs == 1


@pytest.mark.parametrize("external", ["mine", ""])
async def test_an_event_is_decided_on_once_however_late_it_is_delivered_again(external: str) -> None:
    rig = Rig()
    given = event(external_id=external)
    await rig.start(given)
    await rig.returned()
    rig.now += YEAR
    await rig.commit(schedule(rig.fn, given, rig.moment()))
    assert (await rig.store.stats()).runs == 0


async def test_what_the_stream_is_done_with_is_forgotten() -> None:
    """Or else each event would be remembered for ever."""
    rig = Rig()
    await rig.start(event(id="old"))
    settled = Moment(now=NOW, new_id=rig.moment().new_id, settled=NOW + 1)
    for number in range(3):
        given = event(id=f"new-{number}", received=NOW + 1)
        await rig.commit(schedule(rig.fn, given, settled))
    assert len(rig.store._state.seen[FN]) == 3


async def test_an_event_of_the_future_starts_then() -> None:
    rig = Rig()
    await rig.start(event(ts=NOW + 60_000))
    (item,) = (await rig.items()).values()
    assert (item.due, item.score) == (NOW + 60_000, NOW + 60_000)


async def test_an_event_that_a_clock_ahead_has_accepted_starts_now() -> None:
    rig = Rig()
    await rig.start(event(at=NOW + 60_000))
    (item,) = (await rig.items()).values()
    assert (item.due, item.score) == (NOW, NOW)


async def test_an_event_of_the_past_starts_now() -> None:
    rig = Rig()
    await rig.start(event(ts=NOW - 60_000))
    (item,) = (await rig.items()).values()
    assert (item.due, item.score) == (NOW, NOW)


async def test_a_paused_function_skips() -> None:
    rig = Rig(paused=True)
    await rig.commit(schedule(rig.fn, event(), rig.moment()))
    (entry,) = await rig.history()
    assert entry.what is What.SKIPPED
    assert entry.info is not None
    assert entry.info["reason"] == SkipReason.PAUSED
    assert (await rig.store.stats()).runs == 0


@pytest.mark.parametrize(
    ("source", "value", "factor"),
    [
        ("event.data.p", 10, 10),
        ("event.data.p", -10, -10),
        ("event.data.p", 10**9, MAX_PRIORITY),
        ("event.data.p", -(10**9), -MAX_PRIORITY),
        ("event.data.p", 1.5, 0),
        ("event.data.p", True, 0),
        ("event.data.p", "10", 0),
        ("event.data.p", None, 0),
        ("date(event.data.p)", {}, 0),
        ("event.data.p > 5 ? 600 : -600", 6, 600),
    ],
)
async def test_priority(source: str, value: Any, factor: int) -> None:
    rig = Rig(priority=source)
    run = await rig.start(event(data={"p": value}))
    assert run.priority == factor
    assert (await rig.items())["start"].score == NOW - factor * 1000


# -- capacity --


def _cells(fn: Function, **data: Any) -> tuple[list[str], list[int]]:
    begin, work = partitions(fn, event(data=data), NOW)
    assert begin.cells == work.cells
    return [cell.key for cell in work.cells], [cell.index for cell in work.cells]


def test_every_function_has_a_limit() -> None:
    keys, indexes = _cells(function())
    assert len(keys) == 1
    assert indexes == [0]
    assert function().limits == (1000, 0)


def test_keys_tell_apart_and_scopes_bring_together() -> None:
    limits = [Concurrency(limit=5, key="event.data.k"), Concurrency(limit=9, key="event.data.e", scope="env")]
    one, other = function(concurrency=limits), function(id="other", concurrency=limits)
    a, _ = _cells(one, k="a", e="x")
    b, _ = _cells(one, k="b", e="x")
    elsewhere, _ = _cells(other, k="a", e="x")
    assert a[0] != b[0]
    assert a[1] == b[1] == elsewhere[1]
    assert a[0] != elsewhere[0]
    assert one.limits == (5, 9, 0)
    reworded = function(id="third", concurrency=[Concurrency(limit=1, key='"x"', scope="env")])
    assert _cells(reworded)[0] == [a[1]]


def test_a_key_that_fails_is_empty() -> None:
    fn = function(concurrency=[Concurrency(limit=1, key="date(event.data.k)")])
    assert _cells(fn, k={}) == _cells(fn, k=[])


def test_false_is_a_key_like_any_other() -> None:
    fn = function(concurrency=[Concurrency(limit=1, key="event.data.k", scope="env")])
    assert _cells(fn, k=False) == _cells(fn, k="false") != _cells(fn, k="")


def test_values_of_keys_have_partitions_of_their_own() -> None:
    fn = function(concurrency=[Concurrency(limit=1, key="event.data.k")])
    ids = {partitions(fn, event(data={"k": k}), NOW)[1].id for k in ("a", "b", "a")}
    assert len(ids) == 2
    begin, work = partitions(fn, event(data={"k": "a"}), NOW)
    assert begin.id != work.id


def test_runs_at_once_and_throttles_are_for_the_start() -> None:
    fn = function(
        run_concurrency=Concurrency(limit=2, key="event.data.k"), throttle=Throttle(limit=1, period=1000)
    )
    begin, work = partitions(fn, event(data={"k": "a"}), NOW)
    assert begin.run_cell is not None
    assert fn.limits[begin.run_cell.index] == 2
    assert begin.throttle
    assert (work.run_cell, work.throttle) == (None, "")
    other, _ = partitions(fn, event(data={"k": "b"}), NOW)
    assert other.run_cell != begin.run_cell
    assert other.throttle == begin.throttle


@pytest.mark.parametrize(
    "changed",
    [
        {"throttle": Throttle(limit=1, period=1000)},
        {"run_concurrency": Concurrency(limit=1)},
        {"concurrency": [Concurrency(limit=1), Concurrency(limit=5, scope="env")]},
    ],
)
def test_what_is_admitted_in_another_way_is_another_partition(changed: dict[str, Any]) -> None:
    """Or else a store would go on admitting by the definition that it saw first."""
    before, _ = partitions(function(), event(), NOW)
    after, _ = partitions(function(**changed), event(), NOW)
    assert before != after
    assert before.id != after.id


# -- rate limits --


async def test_a_rate_limit_drops() -> None:
    rig = Rig(rate_limit=RateLimit(limit=1, period=60_000))
    await rig.start()
    await rig.commit(schedule(rig.fn, event(id="event-2"), rig.moment()))
    assert (await rig.store.stats()).runs == 1
    assert len(await rig.history()) == 1
    rig.now += 60_000
    await rig.commit(schedule(rig.fn, event(id="event-3"), rig.moment()))
    assert (await rig.store.stats()).runs == 2


async def test_a_rate_limit_by_key() -> None:
    rig = Rig(rate_limit=RateLimit(limit=1, period=60_000, key="event.data.k"))
    await rig.start(event(data={"k": "a"}))
    for number, key in enumerate(["b", "a", False, False]):
        await rig.commit(schedule(rig.fn, event(id=f"more-{number}", data={"k": key}), rig.moment()))
    assert (await rig.store.stats()).runs == 4


async def test_an_event_that_repeats_an_id_does_not_count() -> None:
    rig = Rig(rate_limit=RateLimit(limit=1, period=60_000))
    await rig.start(event(external_id="mine"))
    rig.now += 60_000
    await rig.commit(schedule(rig.fn, event(external_id="mine", id="event-2"), rig.moment()))
    await rig.commit(schedule(rig.fn, event(id="event-3"), rig.moment()))
    assert (await rig.store.stats()).runs == 2


async def test_a_refused_invocation_fails_its_caller() -> None:
    rig = Rig(rate_limit=RateLimit(limit=1, period=60_000))
    await rig.start()
    asked = event(INVOKED, {"_inngest": {"correlation_id": "parent.step", "fn_id": "app-fn"}}, id="event-2")
    await rig.commit(schedule(rig.fn, asked, rig.moment()))
    (told,) = await rig.events()
    data = told.value["data"]
    assert (told.name, data["correlation_id"]) == (FINISHED, "parent.step")
    assert data["error"]["message"] == "invoked function is rate limited"


async def test_an_invocation_that_is_delivered_again_is_not_refused() -> None:
    rig = Rig(rate_limit=RateLimit(limit=1, period=60_000))
    asked = event(INVOKED, {"_inngest": {"correlation_id": "parent.step", "fn_id": "app-fn"}})
    await rig.start(asked)
    await rig.commit(schedule(rig.fn, asked, rig.moment()))
    assert await rig.events() == []
    await rig.returned(b"1")
    (told,) = await rig.events()
    assert told.value["data"]["result"] == 1


async def test_a_debounced_event_that_the_rate_limit_drops_is_not_kept() -> None:
    rig = Rig(rate_limit=RateLimit(limit=1, period=60_000), debounce=Debounce(period=1_000))
    for number in range(2):
        await rig.commit(schedule(rig.fn, event(id=f"event-{number}", ts=NOW + number), rig.moment()))
    (entry,) = rig.store._state.entries.values()
    assert b"event-0" in entry.item.payload


# -- singletons --


async def test_a_singleton_skips() -> None:
    rig = Rig(singleton=Singleton(mode="skip"))
    first = await rig.start()
    await rig.commit(schedule(rig.fn, event(id="event-2"), rig.moment()))
    assert [run.id for run in await rig.runs()] == [first.id]
    last = (await rig.history())[-1]
    assert last.what is What.SKIPPED
    assert last.info is not None
    assert last.info["reason"] == SkipReason.SINGLETON
    await rig.returned()
    await rig.commit(schedule(rig.fn, event(id="event-3"), rig.moment()))
    assert (await rig.store.stats()).runs == 1


async def test_a_redelivered_event_is_not_recorded_as_skipped_by_its_own_run() -> None:
    rig = Rig(singleton=Singleton(mode="skip"))
    await rig.start()
    await rig.commit(schedule(rig.fn, event(), rig.moment()))
    assert [entry.what for entry in await rig.history()] == [What.SCHEDULED]


def test_lock_keys() -> None:
    fn = function(singleton=Singleton(mode="skip", key="event.data.k"))
    keys = [lock_key(fn, event(data={"k": k}), NOW) for k in ("a", "b", "a", False)]
    assert keys[0] == keys[2] != keys[1]
    assert keys[3] is None
    assert lock_key(function(), event(), NOW) is None
    failing = function(singleton=Singleton(mode="skip", key="date(event.data.k)"))
    assert lock_key(failing, event(data={"k": {}}), NOW) is None


# -- cancellation --


async def test_pauses_that_cancel() -> None:
    rig = Rig(
        cancel=[
            Cancel(event="app/stop"),
            Cancel(event="app/one", condition="event.data.u == async.data.u", timeout="1h"),
            Cancel(event="app/never", condition="event.data.u == 'other'"),
            Cancel(event="app/always", condition="event.data.u == 'x'"),
        ]
    )
    run = await rig.start(event(data={"u": "x"}, received=NOW - 5))
    (stop,) = await rig.pauses([event("app/stop")])
    assert (stop.kind, stop.run, stop.condition, stop.expires) == (PauseKind.CANCEL, run.id, "", NOW + YEAR)
    assert (stop.ignore, stop.created) == ("event-1", NOW - 5)
    (one,) = await rig.pauses([event("app/one", {"u": "x"})])
    assert (one.expires, one.terms) == (NOW + 3_600_000, [("data.u", "s:x")])
    assert await rig.pauses([event("app/one", {"u": "y"})]) == []
    assert await rig.pauses([event("app/never")]) == []
    (always,) = await rig.pauses([event("app/always")])
    assert always.condition == ""


async def test_a_redelivered_event_puts_no_pauses() -> None:
    rig = Rig(cancel=[Cancel(event="app/stop")])
    await rig.start()
    await rig.returned()
    await rig.commit(schedule(rig.fn, event(), rig.moment()))
    assert await rig.pauses([event("app/stop")]) == []


async def test_timeouts_are_queued() -> None:
    rig = Rig(start_timeout=5_000, finish_timeout=9_000)
    await rig.start()
    assert (await rig.items())["start-timeout"].due == NOW + 5_000
    await rig.answer(ran("a"), job="start")
    assert (await rig.items())["finish-timeout"].due == NOW + 9_000
    rig.now += 5_000
    await rig.tick("start-timeout")
    assert not await rig.ended()
    await rig.answer(op(Op.SLEEP, "s", duration="1h"))
    rig.now += 4_000
    await rig.tick("finish-timeout")
    assert (await rig.history())[-1].outcome == RunStatus.CANCELLED


# -- invocations --


async def test_an_invocation_of_nothing_is_answered() -> None:
    meta = {"correlation_id": "p.s", "fn_id": "app-gone", "source_fn_id": FN}
    rig, asked = Rig(), event(INVOKED, {"x": 1, "_inngest": meta})
    for _ in range(2):  # an event that is delivered again is not answered again
        answer = unknown_function(asked, rig.moment())
        assert answer is not None
        await rig.commit(answer)
    (told,) = await rig.events()
    data = told.value["data"]
    assert (told.name, data["correlation_id"], data["function_id"]) == (FINISHED, "p.s", "app-gone")
    assert data["error"]["message"] == "could not find function with ID: app-gone"


def test_an_invocation_that_nobody_waits_for_is_not_answered() -> None:
    asked = event(INVOKED, {"_inngest": {"fn_id": "app-gone"}})
    at = Moment(now=NOW, new_id=lambda: "id")
    assert unknown_function(asked, at) is None
    assert unknown_function(Event(id="e", name="x", ts=NOW, received=NOW), at) is None
