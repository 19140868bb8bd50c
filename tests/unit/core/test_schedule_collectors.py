"""Debounces, batches and crons (wire protocol sections 4.5, 4.6 and 4.12)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from engine_rig import NOW, Rig, event, function

from inngest.core.decisions.collectors import collected
from inngest.core.decisions.crons import crons, tick
from inngest.core.decisions.moment import Moment
from inngest.core.decisions.schedule import schedule
from inngest.core.model.events import SCHEDULED
from inngest.core.model.functions import Batch, Cancel, Debounce, RateLimit, Singleton, Trigger
from inngest.core.model.history import What
from inngest.core.model.runs import Item, Kind, Leased, Queue
from inngest.core.model.transition import Transition, lease_of
from inngest.core.policy import LEASE
from inngest.core.timing.times import DAY, HOUR, MINUTE, rfc3339


class Runner(Rig):
    """The rig, from the runner's side."""

    async def send(self, *names: str, **fields: Any) -> None:
        for name in names:
            await self.commit(schedule(self.fn, event(id=name, **({"ts": self.now} | fields)), self.moment()))

    async def due(self) -> list[Leased]:
        return await self.leased(Queue.RUNNER)

    async def fire(self) -> list[list[str]]:
        """Work off what is due; the ids of the events of each run that this starts."""
        started = []
        for leased in await self.due():
            decide = tick if leased.item.kind is Kind.CRON else collected
            transition = decide(self.fn, leased.item, self.moment())
            transition.lease = lease_of(leased.item)
            committed = await self.commit(transition)
            assert not committed.stale
            run = await self.store.run(self.fn.id, transition.run) if transition.run else None
            if run is not None:
                self.run_id = run.id
                started.append(run.event_ids)
        return started


# -- debounce --


async def test_a_debounce_runs_once_with_the_latest_event() -> None:
    rig = Runner(debounce=Debounce(period=10_000))
    await rig.send("a")
    rig.now += 5_000
    await rig.send("b")
    rig.now += 9_999
    assert await rig.fire() == []
    rig.now += 1
    assert await rig.fire() == [["b"]]
    assert await rig.due() == []


async def test_a_debounce_by_key() -> None:
    rig = Runner(debounce=Debounce(period=10_000, key="event.data.k"))
    for name, key in (("a1", "a"), ("b1", "b"), ("a2", "a")):
        await rig.send(name, data={"k": key})
    rig.now += 10_000
    assert sorted(await rig.fire()) == [["a2"], ["b1"]]


async def test_a_debounce_waits_no_longer_than_its_timeout() -> None:
    rig = Runner(debounce=Debounce(period=10_000, timeout=15_000))
    await rig.send("a")
    rig.now += 9_000
    await rig.send("b")
    rig.now += 6_000
    assert await rig.fire() == [["b"]]


async def test_an_event_with_an_older_time_is_left_out() -> None:
    rig = Runner(debounce=Debounce(period=10_000))
    await rig.send("new", ts=NOW)
    await rig.send("old", ts=NOW - 1)
    rig.now += 10_000
    assert await rig.fire() == [["new"]]


async def test_a_debounced_event_starts_one_run_for_its_id() -> None:
    rig = Runner(debounce=Debounce(period=10_000))
    await rig.send("a", external_id="mine")
    rig.now += 10_000
    assert await rig.fire() == [["a"]]
    await rig.send("b", external_id="mine")
    rig.now += 10_000
    assert await rig.fire() == []


async def test_a_debounced_run_is_not_limited_a_second_time() -> None:
    rig = Runner(debounce=Debounce(period=10_000), rate_limit=RateLimit(limit=1, period=HOUR))
    await rig.send("a")
    rig.now += 10_000
    assert await rig.fire() == [["a"]]


# -- batch --


async def test_a_batch_runs_with_all_events_in_order() -> None:
    rig = Runner(batch=Batch(max_size=3, timeout=10_000))
    await rig.send("a", "b")
    rig.now += 10_000
    assert await rig.fire() == [["a", "b"]]
    run = await rig.run()
    assert run.batch
    assert [msgspec.json.decode(raw)["id"] for raw in run.events] == ["a", "b"]


async def test_a_full_batch_runs_at_once() -> None:
    rig = Runner(batch=Batch(max_size=2, timeout=10_000))
    await rig.send("a", "b", "c")
    assert await rig.fire() == [["a", "b"]]
    rig.now += 10_000
    assert await rig.fire() == [["c"]]


async def test_a_redelivered_event_is_in_one_batch_once() -> None:
    rig = Runner(batch=Batch(max_size=5, timeout=10_000))
    await rig.send("a", "b", "a")
    rig.now += 10_000
    assert await rig.fire() == [["a", "b"]]
    await rig.send("a")
    rig.now += 10_000
    assert await rig.fire() == []


async def test_an_event_outside_the_condition_runs_alone() -> None:
    rig = Runner(batch=Batch(max_size=5, timeout=10_000, condition="event.data.b"))
    await rig.send("in", data={"b": True})
    await rig.send("out", data={"b": False})
    assert [run.event_ids for run in await rig.runs()] == [["out"]]
    rig.now += 10_000
    assert await rig.fire() == [["in"]]


async def test_a_batch_by_key() -> None:
    rig = Runner(batch=Batch(max_size=5, timeout=10_000, key="event.data.k"))
    for name, key in (("a1", "a"), ("b1", "b"), ("a2", "a")):
        await rig.send(name, data={"k": key})
    rig.now += 10_000
    assert sorted(await rig.fire()) == [["a1", "a2"], ["b1"]]


async def test_rate_limits_locks_timeouts_and_cancellation_are_not_for_batches() -> None:
    rig = Runner(
        batch=Batch(max_size=2, timeout=10_000),
        rate_limit=RateLimit(limit=1, period=HOUR),
        singleton=Singleton(mode="skip"),
        start_timeout=5_000,
        cancel=[Cancel(event="app/stop")],
    )
    await rig.send("a", "b", "c", "d")
    assert sorted(await rig.fire()) == [["a", "b"], ["c", "d"]]
    assert await rig.jobs() == ["start"]
    assert await rig.pauses([event("app/stop")]) == []


async def test_a_batch_that_is_fired_twice_starts_one_run() -> None:
    """The first runner's commit was late: its lease had run out."""
    rig = Runner(batch=Batch(max_size=1, timeout=10_000))
    await rig.send("a")
    (late,) = await rig.due()
    rig.now += 2 * LEASE
    assert await rig.fire() == [["a"]]
    transition = collected(rig.fn, late.item, rig.moment())
    transition.lease = lease_of(late.item)
    assert (await rig.commit(transition)).stale
    assert (await rig.store.stats()).runs == 1


async def test_future_events_of_a_batch_do_not_delay_it() -> None:
    rig = Runner(batch=Batch(max_size=2, timeout=10_000))
    await rig.send("a", "b", ts=NOW + HOUR)
    await rig.fire()
    assert (await rig.items())["start"].due == NOW


@pytest.mark.parametrize("kind", [{"batch": Batch(5, 10_000)}, {"debounce": Debounce(10_000)}])
async def test_what_fires_while_the_function_is_paused_is_skipped(kind: dict[str, Any]) -> None:
    rig = Runner(**kind)
    await rig.send("a")
    rig.fn = function(paused=True, **kind)
    rig.now += 10_000
    assert await rig.fire() == []
    assert [entry.what for entry in await rig.history()] == [What.SKIPPED]


# -- cron --

CRON = "*/5 * * * *"
FIVE = 5 * MINUTE
START = NOW - NOW % FIVE


def _commit_crons(fn: Any, now: int) -> Transition:
    return Transition(fn=fn.id, run="", effects=[crons(fn, 1, Moment(now=now, new_id=lambda: "id"))])


class Clockwork(Runner):
    def __init__(self, *triggers: Trigger, **fields: Any) -> None:
        super().__init__(triggers=list(triggers) or [Trigger(cron=CRON)], **fields)
        self.now = START + 1

    async def sync(self) -> None:
        await self.commit(_commit_crons(self.fn, self.now))

    async def queued(self) -> list[Item]:
        items = [entry.item for entry in self.store._state.entries.values() if not entry.item.run]
        return sorted(items, key=lambda item: item.due)


async def test_a_cron_fires_and_queues_the_next() -> None:
    rig = Clockwork()
    await rig.sync()
    assert [item.due for item in await rig.queued()] == [START + FIVE]
    rig.now = START + FIVE
    assert len(await rig.fire()) == 1
    run = await rig.run()
    assert run.cron == CRON
    sent = msgspec.json.decode(run.events[0])
    assert (sent["name"], sent["ts"]) == (SCHEDULED, rig.now)
    assert sent["data"]["cron"] == CRON
    assert sent["id"] == sent["data"]["scheduledAt"] == "2023-11-14T22:15:00Z"
    assert [item.due for item in await rig.queued()] == [START + 2 * FIVE]
    assert [entry.value for entry in await rig.history() if entry.what is What.SCHEDULED] == run.events


async def test_after_a_downtime_one_tick_fires() -> None:
    rig = Clockwork()
    await rig.sync()
    rig.now = START + 10 * FIVE + 7
    assert len(await rig.fire()) == 1
    assert [item.due for item in await rig.queued()] == [START + 11 * FIVE]
    assert await rig.fire() == []


async def test_syncing_again_does_not_double_a_schedule() -> None:
    rig = Clockwork()
    await rig.sync()
    rig.now += 1000
    await rig.sync()
    rig.now = START + FIVE
    assert len(await rig.fire()) == 1
    await rig.sync()
    assert len(await rig.queued()) == 1


async def test_another_expression_replaces_the_schedule() -> None:
    rig = Clockwork()
    await rig.sync()
    rig.fn = function(triggers=[Trigger(cron="0 0 * * *")])
    await rig.sync()
    (item,) = await rig.queued()
    assert item.due % DAY == 0


@pytest.mark.parametrize("gone", [{"triggers": []}, {"triggers": [Trigger(cron=CRON)], "archived": True}])
async def test_a_schedule_that_is_gone_ends(gone: dict[str, Any]) -> None:
    rig = Clockwork()
    await rig.sync()
    rig.fn = function(**gone)
    rig.now = START + FIVE
    assert await rig.fire() == []
    assert await rig.queued() == []
    await rig.sync()
    assert await rig.queued() == []


async def test_a_tick_that_is_worked_off_twice_starts_one_run() -> None:
    rig = Clockwork()
    await rig.sync()
    rig.now = START + FIVE
    (leased,) = await rig.due()
    for _ in range(2):
        await rig.commit(tick(rig.fn, leased.item, rig.moment()))
    assert (await rig.store.stats()).runs == 1
    assert len([item for item in await rig.queued() if item.due > rig.now]) == 1


async def test_a_paused_schedule_goes_on_without_runs() -> None:
    rig = Clockwork(paused=True)
    await rig.sync()
    rig.now = START + FIVE
    assert await rig.fire() == []
    assert [item.due for item in await rig.queued()] == [START + 2 * FIVE]


async def test_several_schedules_of_one_function() -> None:
    rig = Clockwork(Trigger(cron=CRON), Trigger(cron="*/10 * * * *"), Trigger(event="app/go"))
    await rig.sync()
    assert len(await rig.queued()) == 2


async def test_jitter_delays_the_tick_and_not_its_name() -> None:
    rig = Clockwork(Trigger(cron=CRON, jitter=60_000))
    await rig.sync()
    (item,) = await rig.queued()
    assert START + FIVE <= item.due < START + FIVE + 60_000
    rig.now = item.due + 40  # nobody is on time to the millisecond
    await rig.fire()
    sent = msgspec.json.decode((await rig.run()).events[0])
    assert sent["data"]["scheduledAt"] == "2023-11-14T22:15:00Z"
    assert (sent["data"]["fireAt"], sent["ts"]) == (rfc3339(item.due), item.due)


async def test_a_cron_beside_an_event_trigger_keeps_out_of_the_events_way() -> None:
    rig = Clockwork(Trigger(cron=CRON), Trigger(event="app/go"))
    await rig.sync()
    await rig.send("a")
    assert (await rig.store.stats()).runs == 1
    assert len(await rig.queued()) == 1
