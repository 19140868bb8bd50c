"""Partitions, capacity and leases: which item may be worked on, by whom, until when.

An entry is in one of three states. *Timer*: not due yet, on the heap of its queue. *Ready*: due, on the heap
of its partition. *Leased*. Heaps are cleaned lazily: a heap slot counts only while its ``mark`` is the
entry's.

A partition that has ready entries is either in its queue's ring, where each lease takes one entry and goes on
to the next partition, or *parked*: by a cell without capacity, which wakes its parked partitions in score
order as capacity returns, or by a throttle, until a given time. Nothing polls.

Times are the store's, but for ``passed`` and what leases go by: ms that have passed, which nobody sets.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable
from enum import IntEnum

from inngest.backends.memory.expiring import Expiring
from inngest.core.model.functions import UNLIMITED, Function
from inngest.core.model.runs import CALLS, Cell, Item, Kind, Partition, Queue
from inngest.core.timing import gcra

_US = 1000
SWEEP = 1000
"""How often (ms) leases are checked for having run out."""

NEVER = 1 << 62
"""No time is later. A lease that is not handed out yet, since it is not durable, goes until then."""

Holder = tuple[str, int]
"""Who leased an item: the worker, and the number of its request."""


class State(IntEnum):
    TIMER = 0
    READY = 1
    LEASED = 2
    GONE = 3


class Entry:
    """An item in the queue. ``admitted`` is the partition that it belongs to once it has been leased, if that
    is another: a run that has its place must not wait behind those who wait for theirs.
    """

    __slots__ = ("admitted", "held", "holder", "item", "mark", "part", "state", "until")

    def __init__(self, item: Item, part: Part, admitted: Partition | None) -> None:
        self.item = item
        self.part = part
        self.admitted = admitted
        self.state = State.GONE
        self.mark = 0
        self.until = 0
        self.holder: Holder = ("", 0)
        self.held: tuple[Cell, ...] = ()


class Part:
    """A partition's ready entries. ``size`` counts all of its entries, those not due and the leased ones too.

    ``ticket`` is the number under which the partition waits for capacity, 0 if it does not, and ``waits_for``
    the cell, None for a throttle.
    """

    __slots__ = ("definition", "heap", "queue", "size", "ticket", "waits_for")

    def __init__(self, definition: Partition, queue: Queue) -> None:
        self.definition = definition
        self.queue = queue
        self.heap: list[tuple[int, int, Entry]] = []
        self.size = 0
        self.ticket = 0
        self.waits_for: Cell | None = None

    def head(self) -> Entry | None:
        heap = self.heap
        while heap:
            _, mark, entry = heap[0]
            if entry.mark == mark and entry.state == State.READY:
                return entry
            heapq.heappop(heap)
        return None


class _Cell:
    """Capacity: who holds it, and which partitions wait for it.

    Functions may share a cell, each with a limit of its own, so that those of one limit form a line.
    """

    __slots__ = ("holders", "lines")

    def __init__(self) -> None:
        self.holders: set[str] = set()
        self.lines: dict[tuple[str, int], list[tuple[int, int, Part]]] = {}  # score, ticket, partition

    def first(self, line: tuple[str, int]) -> tuple[int, int, Part] | None:
        """The head of a line; who does not wait any more is struck off."""
        heap = self.lines[line]
        while heap:
            if heap[0][2].ticket == heap[0][1]:
                return heap[0]
            heapq.heappop(heap)
        del self.lines[line]
        return None


class MemoryQueue:
    """All queued items of one engine store. Synchronous and without I/O; the engine store adds waiting and
    durability.
    """

    def __init__(
        self,
        function: Callable[[str], Function | None],
        on_ready: Callable[[Queue], None],
    ) -> None:
        self._function = function
        self._on_ready = on_ready
        self._parts: dict[str, Part] = {}
        self._cells: dict[str, _Cell] = {}
        self._ring: dict[Queue, OrderedDict[Part, None]] = {queue: OrderedDict() for queue in Queue}
        self._timers: dict[Queue, list[tuple[int, int, Entry]]] = {queue: [] for queue in Queue}
        self._wakes: dict[Queue, list[tuple[int, int, Part]]] = {queue: [] for queue in Queue}
        self._dead: dict[Queue, int] = dict.fromkeys(Queue, 0)
        self._leased: set[Entry] = set()
        self._sweep = 0
        self._latest = 0
        self.tats: Expiring[int] = Expiring()
        self._mark = 0

    @property
    def leased(self) -> int:
        return len(self._leased)

    # -- entries --

    def add(self, item: Item, definition: Partition, now: int, *, admitted: Partition | None = None) -> Entry:
        """Put a new item: ready if it is due, else a timer."""
        entry = Entry(item, self._enter(definition, item.queue), admitted)
        self.put(entry, now)
        return entry

    def _enter(self, definition: Partition, queue: Queue) -> Part:
        part = self._parts.get(definition.id)
        if part is None:
            part = self._parts[definition.id] = Part(definition, queue)
        part.size += 1
        return part

    def _leave(self, part: Part) -> None:
        part.size -= 1
        self._forget(part)

    def put(self, entry: Entry, now: int) -> None:
        """(Re)insert an entry by its item's due time."""
        self._lift(entry)
        self._mark += 1
        entry.mark = self._mark
        item = entry.item
        if item.due > now:
            entry.state = State.TIMER
            timers = self._timers[entry.part.queue]
            heapq.heappush(timers, (item.due, entry.mark, entry))
            if timers[0][2] is entry:
                self._on_ready(entry.part.queue)  # the next due time has moved forward
        else:
            entry.state = State.READY
            self._ready(entry)

    def _ready(self, entry: Entry) -> None:
        part = entry.part
        heapq.heappush(part.heap, (entry.item.score, entry.mark, entry))
        if not part.ticket:
            self._enring(part)
        elif part.waits_for is not None and part.head() is entry:
            self._park(part, part.waits_for)  # the partition moves forward in its line

    def _enring(self, part: Part) -> None:
        ring = self._ring[part.queue]
        if part not in ring:
            ring[part] = None
            self._on_ready(part.queue)

    def remove(self, entry: Entry) -> None:
        """Forget an entry in any state; what it held is released."""
        self._lift(entry)
        entry.mark = -1
        self._release(entry)
        self._leave(entry.part)

    def _lift(self, entry: Entry) -> None:
        """Take an entry from wherever it is; what it held stays held."""
        before, entry.state = entry.state, State.GONE
        if before == State.LEASED:
            self._leased.discard(entry)
        elif before == State.TIMER:
            self._bury(entry)
        elif before == State.READY and entry.part.head() is None:
            part = entry.part
            if part in self._ring[part.queue]:
                del self._ring[part.queue][part]
                self._pass_on(part)
            else:
                part.ticket, part.waits_for = 0, None

    def _bury(self, entry: Entry) -> None:
        """Timers that were taken back must not stay until they would have been due, which may be a year."""
        queue = entry.part.queue
        self._dead[queue] += 1
        timers = self._timers[queue]
        if self._dead[queue] > 1024 and self._dead[queue] * 2 > len(timers):
            timers[:] = [slot for slot in timers if slot[1] == slot[2].mark and slot[2].state == State.TIMER]
            heapq.heapify(timers)
            self._dead[queue] = 0

    def _forget(self, part: Part) -> None:
        """A partition without entries is forgotten, once nothing leads to it."""
        if not part.size:
            self._parts.pop(part.definition.id, None)

    # -- leasing --

    def lease(
        self,
        queue: Queue,
        limit: int,
        now: int,
        until: int,
        holder: Holder,
        *,
        weigh: Callable[[Entry], int] = lambda _: 0,
        most: int = 1,
    ) -> list[Entry]:
        """Lease what is next. The entry with which all together weigh ``most`` is the last."""
        self._promote(queue, now)
        ring = self._ring[queue]
        leased: list[Entry] = []
        while ring and len(leased) < limit and most > 0:
            part, _ = ring.popitem(last=False)
            entry = self._lease_head(part, now, until, holder)
            if entry is not None:
                leased.append(entry)
                most -= weigh(entry)
        return leased

    def lease_next(self, entry: Entry, now: int, until: int, holder: Holder) -> bool:
        """Lease this one ready entry, if it is next by right: no other partition has work, nor has its own
        before it.
        """
        part = entry.part
        self._promote(part.queue, now)
        ring = self._ring[part.queue]
        if len(ring) != 1 or part not in ring or part.head() is not entry:
            return False
        ring.clear()
        return self._lease_head(part, now, until, holder) is not None

    def _lease_head(self, part: Part, now: int, until: int, holder: Holder) -> Entry | None:
        """Lease the head of a partition, which is put back in the ring, if capacity allows; else park it."""
        entry = part.head()
        assert entry is not None, "an empty partition is in no ring"
        item = entry.item
        if item.kind in CALLS and not self._acquire(part, entry, now):
            return None
        heapq.heappop(part.heap)
        self._mark += 1
        entry.mark = self._mark
        entry.state = State.LEASED
        entry.until = until
        entry.holder = holder
        item.epoch += 1
        self._leased.add(entry)
        if part.head() is not None:
            self._ring[part.queue][part] = None
        return entry

    def _acquire(self, part: Part, entry: Entry, now: int) -> bool:
        definition, item = part.definition, entry.item
        fn = self._function(definition.fn)
        starting = item.kind is Kind.START
        cells = definition.cells
        for cell in cells:
            if not self._free(cell, fn, item.job):
                self._park(part, cell)
                return False
        if starting:
            if definition.run_cell is not None and not self._free(definition.run_cell, fn, item.run):
                self._park(part, definition.run_cell)
                return False
            if definition.throttle and not self._throttle(part, fn, now):
                return False
        for cell in cells:
            self._cell(cell.key).holders.add(item.job)
        entry.held = cells
        if starting and definition.run_cell is not None:
            self._cell(definition.run_cell.key).holders.add(item.run)
        return True

    def _cell(self, key: str) -> _Cell:
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = _Cell()
        return cell

    def _free(self, cell: Cell, fn: Function | None, holder: str) -> bool:
        limit = _limit(fn, cell.index)
        state = self._cells.get(cell.key)
        return limit == UNLIMITED or state is None or len(state.holders) < limit or holder in state.holders

    def _throttle(self, part: Part, fn: Function | None, now: int) -> bool:
        if fn is None or fn.throttle is None:
            return True
        params = gcra.throttle(fn.throttle.limit, fn.throttle.period, fn.throttle.burst)
        key = part.definition.throttle
        admission = gcra.admit(params, self.tats.get(key, now), now * _US)
        if admission.tat is not None:
            self.tats.expire(now)
            self.tats.put(key, admission.tat, admission.tat // _US + 1)
        if admission.admitted:
            return True
        self._mark += 1
        part.ticket, part.waits_for = self._mark, None
        wake = -(-admission.retry_at // _US)
        heapq.heappush(self._wakes[part.queue], (wake, part.ticket, part))
        self._pass_on(part)
        return False

    def _park(self, part: Part, cell: Cell) -> None:
        entry = part.head()
        assert entry is not None, "an empty partition waits for nothing"
        self._mark += 1
        part.ticket, part.waits_for = self._mark, cell
        line = self._cell(cell.key).lines.setdefault((part.definition.fn, cell.index), [])
        heapq.heappush(line, (entry.item.score, part.ticket, part))
        self._pass_on(part, but=cell.key)

    def _unpark(self, part: Part) -> None:
        part.ticket, part.waits_for = 0, None
        self._enring(part)

    def _pass_on(self, part: Part, but: str = "") -> None:
        """A woken partition does not use the capacity it was woken for: the next in line may."""
        for cell in part.definition.cells:
            if cell.key != but:
                self._wake(cell.key)
        if part.definition.run_cell is not None and part.definition.run_cell.key != but:
            self._wake(part.definition.run_cell.key)

    def _release(self, entry: Entry) -> None:
        held, entry.held = entry.held, ()
        for cell in held:
            state = self._cells.get(cell.key)
            if state is not None:
                state.holders.discard(entry.item.job)
                self._wake(cell.key)

    def hold_run(self, cell: Cell, run: str) -> None:
        """A run that began before this queue was made holds its run-level capacity."""
        self._cell(cell.key).holders.add(run)

    def release_run(self, cell: Cell, run: str) -> None:
        """A run ends: its run-level capacity is free."""
        state = self._cells.get(cell.key)
        if state is not None:
            state.holders.discard(run)
            self._wake(cell.key)

    def _wake(self, key: str) -> None:
        """Wake as many of those who wait as there is room for, in score order."""
        state = self._cells.get(key)
        if state is None:
            return
        taken = len(state.holders)
        while state.lines:
            best: tuple[int, int, Part] | None = None
            for line in list(state.lines):
                slot = state.first(line)
                limit = _limit(self._function(line[0]), line[1])
                if (
                    slot is not None
                    and (limit == UNLIMITED or taken < limit)
                    and (best is None or slot < best)
                ):
                    best = slot
            if best is None:
                break
            taken += 1
            self._unpark(best[2])
        if not state.lines and not state.holders:
            del self._cells[key]

    def reconsider(self, fn_id: str) -> None:
        """The limits of a function have changed: whoever waits for its capacity may have another try."""
        parked = [part for part in self._parts.values() if part.ticket and part.definition.fn == fn_id]
        for part in sorted(parked, key=lambda part: part.ticket):
            self._unpark(part)

    # -- time --

    def _promote(self, queue: Queue, now: int) -> None:
        timers = self._timers[queue]
        while timers and timers[0][0] <= now:
            _, mark, entry = heapq.heappop(timers)
            if entry.mark == mark and entry.state == State.TIMER:
                entry.state = State.READY
                self._ready(entry)
            else:
                self._dead[queue] -= 1
        if now < self._latest:
            # By the clock as it was they would wait for too long.
            for wakes in self._wakes.values():
                self._try_again(wakes, NEVER)
        self._latest = now
        self._try_again(self._wakes[queue], now)

    def _try_again(self, wakes: list[tuple[int, int, Part]], until: int) -> None:
        """Those whom a throttle lets wait no longer than until then."""
        while wakes and wakes[0][0] <= until:
            _, ticket, part = heapq.heappop(wakes)
            if part.ticket == ticket:
                self._unpark(part)

    def expired(self, passed: int) -> list[Entry]:
        """Entries whose lease has run out, in a set order; looked for once in `SWEEP`."""
        if passed < self._sweep:
            return []
        self._sweep = passed + SWEEP
        over = [entry for entry in self._leased if entry.until <= passed]
        return sorted(over, key=lambda entry: (entry.until, entry.item.fn, entry.item.job))

    def held_by(self, holder: Holder, queue: Queue) -> list[Entry]:
        """What a request has leased and is still held."""
        found = [entry for entry in self._leased if entry.holder == holder and entry.part.queue is queue]
        return sorted(found, key=lambda entry: entry.mark)

    def held_by_worker(self, worker: str) -> list[Entry]:
        """What a worker has leased, in a set order, but for what is not handed out yet."""
        found = [each for each in self._leased if each.holder[0] == worker and each.until != NEVER]
        return sorted(found, key=lambda entry: (entry.until, entry.item.fn, entry.item.job))

    def unlease(self, entry: Entry, now: int) -> None:
        """Back to the queue, by its due time, with its capacity released."""
        self._lift(entry)
        self._release(entry)
        if entry.admitted is not None:
            self._leave(entry.part)
            entry.part, entry.admitted = self._enter(entry.admitted, entry.part.queue), None
            entry.item.partition = entry.part.definition.id
        self.put(entry, now)

    def waits(self, queue: Queue, now: int, passed: int) -> int | None:
        """In how many ms, at the earliest, something may become ready by itself."""
        timers = self._timers[queue]
        while timers and (timers[0][2].mark != timers[0][1] or timers[0][2].state != State.TIMER):
            heapq.heappop(timers)
            self._dead[queue] -= 1
        wakes = self._wakes[queue]
        while wakes and wakes[0][2].ticket != wakes[0][1]:
            heapq.heappop(wakes)
        times = [heap[0][0] - now for heap in (timers, wakes) if heap]
        if self._leased:
            times.append(self._sweep - passed)
        return max(min(times), 0) if times else None

    def has_ready(self, queue: Queue) -> bool:
        return bool(self._ring[queue])


def _limit(fn: Function | None, index: int) -> int:
    limits = fn.limits if fn is not None else ()
    return limits[index] if index < len(limits) else UNLIMITED
