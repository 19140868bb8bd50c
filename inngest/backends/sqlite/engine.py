"""The embedded engine store: the memory store, followed by a journal. Of runs that wait, most is in the file
alone (`resting`).

Leases are not written: after a restart nobody holds any, and what was being worked on is due again. Their
epochs go on above all earlier ones, so that an application which still reports on a call from before the
restart is refused.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Sequence
from typing import Any

from inngest.backends.damage import Damage
from inngest.backends.memory.clock import wall_clock
from inngest.backends.memory.engine import MemoryEngineStore
from inngest.backends.sqlite.journal import Journal
from inngest.backends.sqlite.ledger import Followed, FollowedSeen, Ledger, SeenBook
from inngest.backends.sqlite.loading import Loader
from inngest.backends.sqlite.notes import SqliteNotes
from inngest.backends.sqlite.packing import refuse_unwritable
from inngest.backends.sqlite.resting import AWAKE_BYTES, Resting
from inngest.core.model.functions import App, Function
from inngest.core.model.runs import Run
from inngest.core.model.transition import Committed, TakeLock, Transition
from inngest.core.policy import LEASE_BYTES
from inngest.ports.engine import Stats, Take

EPOCHS_PER_BOOT = 1 << 20
"""More than any item is leased between two starts."""


class SqliteEngineStore(MemoryEngineStore):
    """See `inngest.ports.engine.EngineStore`.

    Args:
        awake: bytes of runs that wait and are kept whole in memory all the same, about.

    """

    def __init__(
        self, journal: Journal, clock: Callable[[], int] = wall_clock, *, awake: int = AWAKE_BYTES
    ) -> None:
        self._journal = journal
        self._ledger = Ledger(journal)
        self._book = SeenBook(journal)
        self._notes = SqliteNotes(journal, self._ledger, self._book)
        super().__init__(clock, notes=self._notes)
        state = self._state
        self._damage = Damage(str(journal.path))
        self._resting = Resting(state, self._notes.unwritten, self._damage, clock, awake)
        self._notes.state = state
        self._notes.written = self._resting.written
        self._maps: dict[str, Followed[Any]] = {
            "claims": Followed("claims", self._ledger),
            "rates": Followed("rates", self._ledger, int),
            "throttles": Followed("throttles", self._ledger, int),
        }
        state.claims = self._maps["claims"]
        state.tats = self._maps["rates"]
        state.queue.tats = self._maps["throttles"]
        state.new_seen = lambda fn: FollowedSeen(fn, self._book)
        journal.add_source(self._notes.statements)

    async def _settle(self) -> None:
        await self._journal.settled()

    def _view(self, run: Run) -> Run:
        # Others go on with it while this becomes durable: nobody may see what may be lost.
        return run.copy()

    async def _wake(self, runs: Collection[str]) -> None:
        if self._resting.any(runs):
            await self._journal.look(lambda db: self._resting.load(db, runs))

    def _touched(self, transitions: Sequence[Transition]) -> set[str]:
        """The runs whose own state the transitions may read or change."""
        runs = {transition.run for transition in transitions if transition.run}
        for transition in transitions:
            for effect in transition.effects:
                if isinstance(effect, TakeLock) and effect.evict is not None:
                    runs.add(self._state.locks.get(effect.key, ("", ""))[0])
        return runs

    async def put_app(self, app: App, functions: Sequence[Function]) -> None:
        self._journal.check()
        refuse_unwritable(self._journal.path, [app, *functions])
        await super().put_app(app, functions)

    async def commit(self, transitions: Sequence[Transition], *, take: Take | None = None) -> list[Committed]:
        refuse_unwritable(self._journal.path, transitions)
        results: list[Committed] = []
        while len(results) < len(transitions):
            some = self._wakeable(transitions[len(results) :])
            while self._resting.any(touched := self._touched(some)):
                await self._wake(touched)  # meanwhile a lock may have come to another run
            results += await super().commit(some, take=take)
        return results

    def _wakeable(self, transitions: Sequence[Transition]) -> Sequence[Transition]:
        """The first of them: as many as wake no more than is handed out together, one at least."""
        if len(transitions) == 1 or not self._resting.any(self._touched(transitions)):
            return transitions
        weight, known = 0, self._state.runs
        seen: set[str] = set()
        for place, transition in enumerate(transitions):
            touched = self._touched([transition]) - seen
            weight += sum(known[run].weight for run in touched if run in known)
            if weight >= LEASE_BYTES and place:
                return transitions[:place]
            seen |= touched
        return transitions

    async def open(self) -> None:
        await self._journal.open()
        try:
            loader = await self._journal.read(self._load)
        except BaseException:
            await self._journal.close()
            raise
        loader.tidy(self.now())

    def _load(self, db: sqlite3.Connection) -> Loader:
        (boots,) = db.execute("SELECT value FROM meta WHERE key = 'boots'").fetchone()
        self._state.epoch_base = (boots - 1) * EPOCHS_PER_BOOT
        self._ledger.load(db, self._maps, self._damage)
        self._book.load(db, self._state.seen, self._damage)
        loader = Loader(db, self._state, self._notes, self._damage)
        loader.load()
        return loader

    async def stats(self) -> Stats:
        stats = await super().stats()
        stats.damaged = self._damage.count
        return stats

    async def close(self) -> None:
        await self._journal.close()

    async def ping(self) -> None:
        await self._journal.ping()

    async def died(self) -> None:
        await self._journal.died()
