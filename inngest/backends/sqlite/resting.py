"""Runs at rest: what only a run's own transitions need stays in the file until one of them comes.

Of a run that waits, memory holds what others look at: its waits, its queued items, and who it is. Events,
step results and the job ids that it has used are most of its bytes, and are fetched in one look when the run
moves again. Runs that were busy last are kept whole, as many as a bound allows, so that a server with few
runs fetches none.

A run is let go of only when nothing of it is leased and all that was noted of it is in the file.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable

import msgspec

from inngest.backends.damage import Damage
from inngest.backends.lost import lost_run_entry
from inngest.backends.memory.queue import State
from inngest.backends.memory.state import EngineState, RunState
from inngest.backends.sqlite.rows import BODY, HEAD, ITEM, STEP, Head
from inngest.core.model.runs import Run

AWAKE_BYTES = 16 * 1024 * 1024
"""What the runs that are kept whole may take, about."""

_LOOKED_AT = 64  # runs that may be busy, in one search for those to let go of

_unpack_run = msgspec.msgpack.Decoder(Run).decode
_unpack_head = msgspec.msgpack.Decoder(Head).decode
_unpack_step = msgspec.msgpack.Decoder(tuple[str, bytes]).decode

_Row = tuple[int, str | int | bytes, bytes]

# Of items only the job ids are wanted.
_ROWS = f"""
SELECT kind, key, CASE WHEN kind < {ITEM} THEN value END FROM state
WHERE run = ? AND kind <= {ITEM} ORDER BY kind, key
"""  # noqa: S608 -- numbers of our own


class Resting:
    """Decides which runs rest, and wakes them.

    Args:
        state: whose runs they are.
        unwritten: whether something of a run is not in the file yet.
        damage: where runs are told of that cannot be read.
        clock: the time in Unix ms.
        most: bytes of runs that may be kept whole.

    """

    def __init__(
        self,
        state: EngineState,
        unwritten: Callable[[str], bool],
        damage: Damage,
        clock: Callable[[], int],
        most: int = AWAKE_BYTES,
    ) -> None:
        self._state = state
        self._unwritten = unwritten
        self._damage = damage
        self._clock = clock
        self._most = most
        self._awake: OrderedDict[str, int] = OrderedDict()  # run -> its bytes, the longest unused first
        self._bytes = 0

    def any(self, runs: Iterable[str]) -> bool:
        """Whether one of them rests."""
        known = self._state.runs
        return any(run in known and known[run].rests for run in runs)

    def written(self, runs: Iterable[str]) -> None:
        """What was noted of these runs is in the file."""
        for run in runs:
            state = self._state.runs.get(run)
            if state is None or state.rests:
                self._bytes -= self._awake.pop(run, 0)
            else:
                self._used(state)
        self._let_go()

    def load(self, db: sqlite3.Connection, runs: Iterable[str]) -> None:
        """Wake those that rest. One that cannot be read has failed, and is told of.

        Raises:
            sqlite3.Error: the file is damaged.

        """
        self._let_go()  # first: what is woken must stay until it has been used
        for run in runs:
            state = self._state.runs.get(run)
            if state is not None and state.rests:
                rows = db.execute(_ROWS, (run,)).fetchall()
                found = self._damage.read("run", run, _assembled, rows)
                if found is None:
                    self._state.end_run(state)
                    self._state.record(lost_run_entry(run, state.fn, self._clock()))
                else:
                    state.wake(*found)
                    self._used(state)

    def _used(self, state: RunState) -> None:
        run = state.run
        size = run.weight()
        self._bytes += size - self._awake.pop(run.id, 0)
        self._awake[run.id] = size

    def _let_go(self) -> None:
        looks = _LOOKED_AT
        while self._bytes > self._most and looks and self._awake:
            run, size = self._awake.popitem(last=False)
            state = self._state.runs.get(run)
            if state is None or state.rests:
                self._bytes -= size
            elif self._unwritten(run) or any(entry.state == State.LEASED for entry in state.entries.values()):
                self._awake[run] = size
                looks -= 1
            else:
                self._bytes -= size
                state.rest()


def _assembled(rows: list[_Row]) -> tuple[Run, set[str]]:
    """A run and the job ids that it has used, of its rows in order."""
    run: Run | None = None
    jobs: set[str] = set()
    for kind, key, value in rows:
        if kind == BODY:
            run = _unpack_run(value)
        elif run is None:
            break
        elif kind == HEAD:
            _apply(run, _unpack_head(value))
        elif kind == STEP:
            run.save_step(*_unpack_step(value))
        else:
            jobs.add(str(key))
    if run is None:
        raise ValueError("its first row is missing")
    # Steps saved since the head was written are counted once more than needed, never less.
    run.revision += len(run.stack)
    return run, jobs


def _apply(run: Run, head: Head) -> None:
    run.request_version = head.request_version
    run.force_plan = head.force_plan
    run.started = head.started
    run.pending = head.pending
    run.revision = head.revision
