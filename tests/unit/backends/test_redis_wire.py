"""What is sent for an effect is what its function in Lua takes."""

from __future__ import annotations

from typing import get_args

import builders
import pytest

from inngest.backends.redis import wire
from inngest.backends.redis.scripts import COMMIT, effects_of
from inngest.core.model.history import History, What
from inngest.core.model.runs import Kind, RunStatus, timers
from inngest.core.model.transition import (
    Admit,
    Adopt,
    Await,
    Begin,
    Collect,
    Complete,
    CreateRun,
    Discover,
    Drop,
    Effect,
    Emit,
    EndRun,
    Enqueue,
    EnqueueFirst,
    Evict,
    ForcePlan,
    Once,
    PutPause,
    Recall,
    Record,
    Remember,
    ResetAttempts,
    Retry,
    SaveStep,
    SetCrons,
    SignalTaken,
    TakeLock,
    TakePause,
    Unclaimed,
)
from inngest.core.timing import gcra

RUN = builders.run("run")
ITEM = builders.item(RUN)
EFFECTS: list[Effect] = [
    Once(key="k", at=1),
    Remember(name="n", event=b"{}", at=1, ttl=1),
    Recall(names=["n"], since=1, item=ITEM),
    Unclaimed(key="k"),
    Admit(key="k", params=gcra.rate_limit(1, 1000)),
    TakeLock(key="k", order="1"),
    TakeLock(key="k", order="1", evict=ITEM),
    CreateRun(run=RUN),
    CreateRun(run=RUN, claim=1),
    Collect(key="k", item=builders.item(None, Kind.BATCH), partition=timers("fn"), event=b"{}", ts=1),
    Enqueue(item=ITEM),
    Enqueue(item=ITEM, partition=timers("fn")),
    EnqueueFirst(items=[ITEM]),
    Drop(job="j"),
    Complete(),
    Retry(due=1, attempt=1),
    Retry(due=1, attempt=1, payload=b"{}"),
    ResetAttempts(job="j", epoch=1, ms=1),
    Begin(at=1),
    Adopt(version=1),
    ForcePlan(),
    SaveStep(step="s", value=b"1"),
    Await(steps=["s"]),
    Discover(item=ITEM),
    PutPause(pause=builders.pause(RUN)),
    PutPause(pause=builders.pause(RUN, terms=[("data.x", "n:1")]), exclusive="fail"),
    SignalTaken(name="n", pause="p", step="s"),
    TakePause(id="p"),
    Evict(item=ITEM),
    EndRun(status=RunStatus.COMPLETED),
    Emit(event=b"{}"),
    Record(entry=History(id="h", what=What.ATTEMPT, run="run", fn="fn", at=1)),
    SetCrons(items=[ITEM], partition=timers("fn"), version=1),
]


def test_every_effect_is_here() -> None:
    assert {type(effect) for effect in EFFECTS} == set(get_args(Effect))


def test_the_functions_are_those_of_the_tags() -> None:
    assert effects_of(COMMIT.source).keys() == {kind.__struct_config__.tag for kind in get_args(Effect)}


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: type(effect).__name__)
def test_as_many_arguments_as_parameters(effect: Effect) -> None:
    tag, *arguments = wire._ENCODERS[type(effect)](effect)
    assert tag == effect.__struct_config__.tag
    assert len(arguments) == len(effects_of(COMMIT.source)[tag])


def test_functions_are_found() -> None:
    source = "function effects.one(a, b)\nend\n  function effects.two(a)\neffects['a-b'] = function()\n"
    assert effects_of(source) == {"one": ["a", "b"], "a-b": []}
