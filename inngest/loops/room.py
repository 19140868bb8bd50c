"""Room for what is large, shared by many: who comes when there is none waits, in order."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable


class Room:
    """Counts what is taken of ``most`` bytes. One alone may be larger.

    What is here already is counted at once by `take`, and may go beyond; what can wait is asked for.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: OrderedDict[Callable[[], None], int] = OrderedDict()
        self.taken = 0

    def ask(self, size: int, granted: Callable[[], None]) -> bool:
        """Take so much, if there is room and nobody waits. Else ``granted`` is called when it has been taken,
        unless it is forgotten before.
        """
        if not self._waiting and self._fits(size):
            self.taken += size
            return True
        self._waiting[granted] = size
        return False

    def forget(self, granted: Callable[[], None]) -> None:
        """Who asked wants none any more."""
        self._waiting.pop(granted, None)
        self._serve()

    def take(self, size: int) -> None:
        self.taken += size

    def give(self, size: int) -> None:
        """So much is free again."""
        self.taken -= size
        self._serve()

    def _fits(self, size: int) -> bool:
        return not self.taken or self.taken + size <= self._most

    def _serve(self) -> None:
        while self._waiting:
            granted, size = next(iter(self._waiting.items()))
            if not self._fits(size):
                return
            del self._waiting[granted]
            self.taken += size
            granted()
