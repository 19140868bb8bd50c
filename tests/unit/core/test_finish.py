"""The end of a run and the events that tell of it (wire protocol sections 2.6 and 3.7)."""

from __future__ import annotations

from typing import Any

import pytest
from engine_rig import NOW, Rig, event, failure

from inngest.core.decisions.advance import cancel
from inngest.core.decisions.collectors import collected
from inngest.core.decisions.schedule import schedule
from inngest.core.model.events import CANCELLED, FAILED, FINISHED, INVOKED, Event
from inngest.core.model.functions import Batch, Trigger
from inngest.core.model.history import What
from inngest.core.model.runs import Kind, Queue, RunStatus
from inngest.core.sdk.responses import read

ERROR = {"error": "Error: x", "name": "Error", "message": "x"}


def _plain(told: Event) -> dict[str, Any]:
    data: dict[str, Any] = told.value["data"]
    return data


async def test_a_completed_run_tells_its_result() -> None:
    rig = Rig()
    given = event(data={"a": 1})
    run = await rig.start(given)
    await rig.returned(b'{"ok":1.0}')
    (told,) = await rig.events()
    assert (told.name, told.ts) == (FINISHED, NOW)
    assert _plain(told) == {
        "function_id": "app-fn",
        "run_id": run.id,
        "event": given.value,
        "events": [given.value],
        "result": {"ok": 1},
        "_inngest": {"status": "Completed"},
    }
    assert b'{"ok":1.0}' in bytes(told.data)


async def test_a_failed_run_tells_its_error_twice() -> None:
    rig = Rig()
    run = await rig.start()
    await rig.reply(failure(no_retry=True))
    finished, failed = await rig.events()
    assert (finished.name, failed.name) == (FINISHED, FAILED)
    assert failed.id == run.id != finished.id
    for told in (finished, failed):
        assert _plain(told)["error"] == ERROR
        assert _plain(told)["_inngest"] == {"status": "Failed"}
        assert "result" not in _plain(told)


async def test_a_cancelled_run_tells_no_result() -> None:
    rig = Rig()
    run = await rig.start()
    await rig.commit(cancel(run, rig.moment()))
    finished, cancelled = await rig.events()
    assert (finished.name, cancelled.name, cancelled.id) == (FINISHED, CANCELLED, run.id)
    for told in (finished, cancelled):
        assert "result" not in _plain(told)
        assert _plain(told)["_inngest"] == {"status": "Cancelled"}
    assert "error" not in _plain(finished)
    assert _plain(cancelled)["error"]["message"] == "function cancelled"


async def test_people_see_what_the_sdk_has_sent_and_events_tell_it_in_one_shape() -> None:
    rig = Rig(retries=0)
    await rig.start()
    body = b'{"name":"E","message":"","stack":"s","cause":{"a":null},"__serialized":true,"data":null}'
    await rig.reply(read(500, {"x-inngest-sdk": "test:v1"}, body, rig.now))
    (ended,) = [entry for entry in await rig.history() if entry.what is What.ENDED]
    assert ended.value == body
    error = {"error": "invalid status code: 500", "name": "E", "message": "", "stack": "s"}
    told = await rig.events()
    assert [event.name for event in told] == [FINISHED, FAILED]
    assert all(_plain(event)["error"] == error for event in told)


async def test_only_the_first_end_is_told() -> None:
    rig = Rig()
    run = await rig.start()
    leased = await rig.lease()
    await rig.commit(cancel(run, rig.moment()))
    await rig.commit(rig.decide(leased, failure(no_retry=True)))
    assert [told.name for told in await rig.events()] == [FINISHED, CANCELLED]
    assert [e.outcome for e in await rig.history() if e.outcome in set(RunStatus)] == [RunStatus.CANCELLED]


@pytest.mark.parametrize("name", [FINISHED, FAILED])
async def test_the_handler_of_an_end_is_not_told_of(name: str) -> None:
    rig = Rig(triggers=[Trigger(event=name)])
    await rig.start(event(name))
    await rig.reply(failure(no_retry=True))
    assert await rig.events() == []


async def test_the_handler_of_a_cancellation_is_told_of() -> None:
    rig = Rig(triggers=[Trigger(event=CANCELLED)])
    await rig.start(event(CANCELLED))
    await rig.returned()
    assert len(await rig.events()) == 1


async def test_an_invoked_run_answers_its_caller() -> None:
    rig = Rig()
    await rig.start(event(INVOKED, {"_inngest": {"correlation_id": "parent.step"}}))
    await rig.returned(b"1")
    (told,) = await rig.events()
    assert _plain(told)["correlation_id"] == "parent.step"


async def test_a_user_who_writes_a_correlation_answers_nobody() -> None:
    rig = Rig()
    await rig.start(
        event(data={"correlation_id": "parent.step", "deep": {"_inngest": {"correlation_id": "x"}}})
    )
    await rig.returned(b"1")
    (told,) = await rig.events()
    assert "correlation_id" not in _plain(told)


async def test_every_caller_of_a_batch_is_answered() -> None:
    rig = Rig(batch=Batch(max_size=3, timeout=1000))
    for number in range(3):
        meta = {"correlation_id": f"parent.{number}"} if number else {}
        given = event(INVOKED, {"_inngest": meta, "n": number}, id=f"event-{number}")
        await rig.commit(schedule(rig.fn, given, rig.moment()))
    (leased,) = (await rig.store.lease(Queue.RUNNER, 10, NOW, NOW + 1000)).items
    assert leased.item.kind is Kind.BATCH
    transition = collected(rig.fn, leased.item, rig.moment())
    rig.run_id = transition.run
    await rig.commit(transition)
    await rig.reply(failure(no_retry=True))
    *finished, failed = await rig.events()
    assert [_plain(told).get("correlation_id") for told in finished] == [None, "parent.1", "parent.2"]
    assert len({told.id for told in (*finished, failed)}) == 4
    assert "correlation_id" not in _plain(failed)
    assert failed.name == FAILED
    assert [e["data"]["n"] for e in _plain(failed)["events"]] == [0, 1, 2]


async def test_sessions_go_along() -> None:
    rig = Rig()
    await rig.start(event(sessions={"chat": "1"}))
    await rig.reply(failure(no_retry=True))
    assert [told.sessions for told in await rig.events()] == [{"chat": "1"}, {"chat": "1"}]
