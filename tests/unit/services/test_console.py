"""What the console of `inngest dev` shows, and what it keeps from the terminal."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from builders import APP, event, function, run

from inngest.backends.memory.engine import MemoryEngineStore
from inngest.core.model.history import History, Outcome, What
from inngest.core.model.runs import RunStatus
from inngest.core.model.transition import Committed, CreateRun, Record, Retry, Transition
from inngest.services.console import Console, shown
from inngest.services.registry import RegistryCache

RUN = "01JQ0000000000000000ABCDEF"
AT = 1_700_000_000_000
ERROR = b'{"name":"E\\u001b[2J","message":"m\\u001b]52;c;ZWNobyBwd25lZA==\\u0007"}'


class Screen:
    def __init__(self) -> None:
        self.out = io.StringIO()
        registry = RegistryCache(MemoryEngineStore())
        registry.functions = {"fn": function(retries=3)}
        self.console = Console(registry, self.out)

    def lines(self) -> list[str]:
        text = self.out.getvalue()
        self.out.truncate(self.out.seek(0))
        return [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in text.splitlines()]

    def commit(self, *effects: Any) -> list[str]:
        transition = Transition(fn="fn", run=RUN, effects=list(effects))
        self.console.committed(transition, Committed(won=[True] * len(effects)))
        return self.lines()


@pytest.fixture
def screen() -> Screen:
    return Screen()


def _record(what: What, outcome: str = "", **fields: Any) -> Record:
    return Record(entry=History(id="1", what=what, run=RUN, fn="fn", at=AT, outcome=outcome, **fields))


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("plain, ünïcödé and 日本語", "plain, ünïcödé and 日本語"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\r\n12:00:00 completed", "a\\r\\n12:00:00 completed"),
        ("\x9b2J\x07\x00", "\\x9b2J\\x07\\x00"),
        ("right\u202eleft", "right\\u202eleft"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, visible: str) -> None:
    assert shown(text) == visible


def test_every_line_of_a_run_begins_with_the_end_of_its_id(screen: Screen) -> None:
    assert screen.commit(CreateRun(run=run(RUN))) == [f"run        ABCDEF  fn  {RUN}"]
    done = _record(What.ATTEMPT, Outcome.OK, step="9f", name="charge", started=AT - 12)
    assert screen.commit(done) == ["step       ABCDEF  app-fn · charge  12 ms"]
    wait = _record(What.WAITING, op="waitforevent", name="paid", info={"event": "x", "until": AT + 1500})
    assert screen.commit(wait) == ["wait       ABCDEF  app-fn · paid  waitforevent x up to 1.5 s"]
    late = _record(What.RESUMED, name="paid", info={"timed_out": True})
    assert screen.commit(late) == ["timed out  ABCDEF  app-fn · paid  what it waited for did not come"]
    assert screen.commit(_record(What.RESUMED, name="paid", info={"event": "e"})) == []
    assert screen.commit(_record(What.ENDED, RunStatus.COMPLETED)) == ["completed  ABCDEF  app-fn"]
    assert screen.commit(_record(What.ENDED, RunStatus.CANCELLED)) == ["cancelled  ABCDEF  app-fn"]


@pytest.mark.parametrize(
    ("ms", "span"),
    [(0, "0.0 s"), (18_000, "18 s"), (119_999, "120 s"), (600_000, "10 min"), (9_000_000, "2.5 h")],
)
def test_a_retry_tells_how_many_there_are_and_when_the_next_is(screen: Screen, ms: int, span: str) -> None:
    failed = _record(What.ATTEMPT, Outcome.RETRY, step="9f", name="charge", value=b'{"message":"no"}')
    (line,) = screen.commit(failed, Retry(due=AT + ms, attempt=1))
    assert line == f"retry      ABCDEF  app-fn · charge  attempt 1 of 4, next in {span}: no"


def test_the_last_failure_is_one_line_without_what_its_error_does_to_terminals(screen: Screen) -> None:
    (line,) = screen.commit(
        _record(What.ATTEMPT, Outcome.FAILED, attempt=3, value=ERROR),
        _record(What.ENDED, RunStatus.FAILED, value=ERROR),
    )
    assert line.startswith(
        "failed     ABCDEF  app-fn  attempt 4 of 4, the run is over: E\\x1b[2J: m\\x1b]52;"
    )
    assert line.isprintable()


def test_events_of_the_server_itself_are_not_shown(screen: Screen) -> None:
    for tell in (lambda each: screen.console.accepted([each]), screen.console.unused):
        tell(event("inngest/function.finished"))
        assert screen.lines() == []
    screen.console.unused(event("shop/paid", id="e1"))
    assert screen.lines() == ["event      shop/paid  e1  starts and ends nothing"]


def test_an_application_is_told_with_the_number_of_its_functions(screen: Screen) -> None:
    screen.console.registered(APP, 1)
    screen.console.registered(APP, 2)
    assert screen.lines() == [
        "app        app: 1 function at http://app.test",
        "app        app: 2 functions at http://app.test",
    ]


def test_the_end_says_what_is_waited_for(screen: Screen) -> None:
    for working in (0, 1, 2):
        screen.console.stopping(working)
    assert screen.lines() == [
        "Stopping.",
        "Stopping, waiting for 1 step. Ctrl-C once more ends at once.",
        "Stopping, waiting for 2 steps. Ctrl-C once more ends at once.",
    ]
