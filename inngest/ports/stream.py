"""The event stream: what the event API accepts, and the runner and the indexer read, each for itself. Beside
it stand the dead letters: what somebody could not read or decide on, kept aside until an operator looks.

A stream carries bytes and never looks into them. Words that this file uses:

- *group*: all readers of one kind; a group gets every entry. A stream is made with the names of its groups.
- *consumer*: one stream object's part of a group. An entry goes to one consumer of each group.
- *outstanding*: what a group was not given yet, or has not acknowledged.

``tests/conformance`` holds every implementation to the words below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from msgspec import Struct

Token: TypeAlias = object
"""Names a delivery. Whose it is knows its shape; others hand it back as it is."""

EVENT = "event"
"""The kind of letters that are entries of the stream."""


class Entry(Struct, gc=False):
    """What was published, with the time (ms) at which the stream has accepted it, on the stream's own clock.

    ``id`` names it within the stream, the same at each delivery. The time is the same at each delivery, too,
    and never less than that of an entry accepted before.
    """

    body: bytes
    at: int
    id: str = ""


class Delivery(Struct):
    """At least one entry, to be acknowledged as a whole by ``token``."""

    entries: list[Entry]
    token: Token


class Letter(Struct, gc=False):
    """A dead letter: the body of an entry that ``group`` could do nothing with, why, and since when (ms).

    ``kind`` is `EVENT`, or what else whoever buried it calls its records; only letters of kind `EVENT` can go
    back to the stream. ``id`` is this letter's own.
    """

    id: str
    kind: str
    group: str
    body: bytes
    reason: str
    at: int


class Dead(Struct, frozen=True):
    """How many dead letters there are, the bytes of their bodies, and how many were dropped for want of room
    since the stream exists.
    """

    letters: int
    bytes: int
    dropped: int


class DeadLetters(Protocol):
    """Every method may raise `StoreUnavailable`, and may then be repeated.

    There is room for `MAX_LETTERS` and `MAX_LETTER_BYTES` (`inngest.core.policy`). Beyond either the oldest
    are dropped, counted and logged; the newest stays, whatever its size.
    """

    async def bury(self, group: str, entries: Sequence[Entry], reason: str, *, kind: str = EVENT) -> None:
        """Keep entries as dead letters; returns when they are kept durably. A delivery that they came in
        stays unacknowledged: whoever buries acknowledges afterwards.

        An entry with an id makes one letter of a kind and group, however often it is buried, as long as that
        letter is there. Of ``reason`` the first `MAX_REASON` characters are kept.
        """

    async def letters(self, after: str = "", *, limit: int) -> list[Letter]:
        """In the order of their burial; ``after`` is the id of the last one seen, which need not be there any
        more. Raises `StoreRefused` if it is no id of a letter.
        """

    async def letter(self, letter_id: str) -> Letter | None: ...

    async def revive(self, ids: Sequence[str]) -> list[str]:
        """Publish letters again, each for the group that has buried it and no other, and remove them, both or
        neither. The ids of those that were; others stay as they are: of another kind, or larger than the
        stream takes. Unknown ids are let go.

        To the group a revived entry is a new one: accepted now, at the end of the stream.
        """

    async def discard(self, ids: Sequence[str]) -> list[str]:
        """Remove letters. The ids of those that were there."""

    async def dead(self) -> Dead: ...


class EventStream(DeadLetters, Protocol):
    """Every entry that was accepted is delivered to every group until the group has acknowledged it.

    No order is promised between consumers, nor of entries that are delivered again. A consumer that has its
    group for itself gets entries in the order of their acceptance.
    """

    largest: int
    """The most bytes that an entry may have."""

    async def open(self) -> None:
        """Connect, and create or check what is stored, whatever is stored by the million. Raises
        `StoreUnavailable`, and of its kind `StoreUnusable` for what does not pass by itself.
        """

    async def close(self) -> None:
        """Leave. What this consumer has not acknowledged goes to others at once, or waits for the next."""

    async def ping(self) -> None:
        """Ask the backing system, cheaply, whether it would take a write. Raises `StoreUnavailable`."""

    async def publish(self, bodies: Sequence[bytes]) -> None:
        """Returns when the stream has acknowledged all of them, durably. They are accepted in this order,
        others may come between.

        A group that does not read holds up nobody; but where entries are kept in memory, and the group is not
        one that may lose some, a publisher waits up to `ROOM_SECONDS` for room.

        Raises:
            StoreRefused: one is larger than `largest`; nothing was taken.
            StoreUnavailable: any part may have been taken.

        """

    async def fetch(self, group: str, limit: int, seconds: float) -> Delivery | None:
        """The next entries of a group, at most ``limit``, and not many more than `DELIVERY_BYTES`. None if
        there is none within ``seconds``.

        A delivery is this consumer's until it is acknowledged, however long that takes, as long as the stream
        object is open and its process lives. What is not acknowledged then is delivered again. What a fetch
        was given that was cancelled or has failed comes with the next.

        Raises `StoreUnavailable`.
        """

    async def ack(self, group: str, token: Token) -> None:
        """The group is done with a delivery. In any order, and any number of times; what is no token of this
        stream object changes nothing.

        A crash may undo it, and the delivery comes again, unless `settled` has told of it. Raises
        `StoreUnavailable`.
        """

    async def backlog(self, group: str) -> int:
        """How many entries are outstanding; those that were revived for another group may count until they
        are passed over. Above `COUNTED` it may be less than there are. Raises `StoreUnavailable`.
        """

    async def settled(self, group: str) -> int:
        """A time (ms): every entry accepted before it is acknowledged by the group, or dropped for it, and
        never comes again. If nothing is outstanding it is the time of the last entry accepted, else that of
        the oldest outstanding one, or if that was not given yet, of the last one given; 0 before the first.

        It never goes back. A consumer that was taken for dead while it stood still may yet hold such an entry
        in its hands, and come with what it makes of it.

        Raises `StoreUnavailable`.
        """

    async def dropped(self, group: str) -> int:
        """How many entries the group was never given, because it lagged behind further than the stream can
        hold. Always 0 for a group that may lose nothing. Raises `StoreUnavailable`.
        """
