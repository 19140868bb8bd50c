"""What functions have decided on, until the event stream is done with it."""

from __future__ import annotations

from collections import deque

FORGOTTEN_AT_ONCE = 64


class Seen:
    """Keys with the time (ms) at which their event was accepted. Old ones are dropped a few at a time,
    whenever one is added, so that nobody waits for a great forgetting.
    """

    __slots__ = ("_keys", "_order", "horizon")

    def __init__(self) -> None:
        self.horizon = 0
        """What was accepted before is forgotten: it was decided on."""
        self._keys: set[str] = set()
        self._order: deque[tuple[int, str]] = deque()

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def add(self, key: str, at: int) -> None:
        if key not in self._keys:
            self._keys.add(key)
            self._order.append((at, key))

    def forget(self, before: int) -> None:
        """Drop some that were accepted ``before``. They are looked at in the order in which they came, which
        is that of acceptance but for a little.
        """
        order = self._order
        self.horizon = max(self.horizon, before)
        for _ in range(FORGOTTEN_AT_ONCE):
            if not order or order[0][0] >= before:
                return
            self._keys.discard(order.popleft()[1])


class Remembered:
    """Events of one name that cancel, oldest first: when accepted, until when remembered, encoded."""

    __slots__ = ("_events", "_most")

    def __init__(self, most: int) -> None:
        self._events: deque[tuple[int, int, bytes]] = deque()
        self._most = most

    def __bool__(self) -> bool:
        return bool(self._events)

    def add(self, event: bytes, at: int, now: int, ttl: int) -> None:
        self.expire(now)
        self._events.append((at, now + ttl, event))
        if len(self._events) > self._most:
            self._events.popleft()

    def expire(self, now: int) -> None:
        while self._events and self._events[0][1] <= now:
            self._events.popleft()

    def since(self, at: int, now: int) -> list[bytes]:
        return [event for accepted, until, event in self._events if accepted >= at and until > now]
