"""Open pauses on Redis: for each event name a bucket of those without terms, and one a path and value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inngest.backends.damage import Damage
from inngest.backends.redis import wire
from inngest.backends.redis.link import Link
from inngest.core.expr import term_value, value_at
from inngest.core.model.events import Event
from inngest.core.model.runs import Pause
from inngest.ports.engine import Page


class Waiting:
    """Reads them in pages. A cursor is the path of a bucket, empty for those without terms, which are the
    first, and the server's own cursor in it. Paths come in order, whatever comes and goes meanwhile.
    """

    def __init__(self, link: Link, prefix: str, damage: Damage) -> None:
        self._link = link
        self._prefix = prefix
        self._damage = damage

    async def first(self, events: Sequence[Event], limit: int) -> list[Page[Pause]]:
        names = list(dict.fromkeys(event.name for event in events))
        if not names:
            return []
        replies = await self._link.read(
            [
                command
                for name in names
                for command in (
                    ("HSCAN", self._prefix + wire.plain_bucket(name), 0, "COUNT", limit),
                    ("HKEYS", self._prefix + wire.paths_name(name)),
                )
            ]
        )
        plain = dict(zip(names, replies[::2], strict=True))
        paths = {
            name: [_text(path) for path in found] for name, found in zip(names, replies[1::2], strict=True)
        }
        wanted = [_buckets(event, paths[event.name]) for event in events]
        buckets = list(dict.fromkeys(bucket for some in wanted for bucket in some.values()))
        scans = {}
        if buckets:
            replies = await self._link.read(
                [("HSCAN", self._prefix + bucket, 0, "COUNT", limit) for bucket in buckets]
            )
            scans = dict(zip(buckets, replies, strict=True))
        return [
            self._page({"": plain[event.name], **{path: scans[bucket] for path, bucket in some.items()}})
            for event, some in zip(events, wanted, strict=True)
        ]

    def _page(self, scans: Mapping[str, tuple[bytes, list[bytes]]]) -> Page[Pause]:
        """The first pages of an event's buckets, up to the first that has more."""
        found: list[Pause] = []
        for path, (cursor, flat) in scans.items():
            found += self._decoded(flat[1::2])
            if cursor != b"0":
                return Page(found=found, cursor=f"{cursor.decode()}:{path}")
        return Page(found=found)

    async def more(self, event: Event, cursor: str, limit: int) -> Page[Pause]:
        if not cursor:
            (page,) = await self.first([event], limit)
            return page
        inner, _, path = cursor.partition(":")
        (raw,) = await self._link.read([("HKEYS", self._prefix + wire.paths_name(event.name))])
        buckets = _buckets(event, [_text(each) for each in raw])
        further = [each for each in buckets if each > path]
        following = f"0:{further[0]}" if further else ""
        bucket = buckets.get(path) if path else wire.plain_bucket(event.name)
        if bucket is None:
            return Page(found=[], cursor=following)
        ((server, flat),) = await self._link.read([("HSCAN", self._prefix + bucket, inner, "COUNT", limit)])
        if server != b"0":
            following = f"{server.decode()}:{path}"
        return Page(found=self._decoded(flat[1::2]), cursor=following)

    async def signal(self, name: str) -> Pause | None:
        (entries,) = await self._link.read([("HVALS", self._prefix + wire.plain_bucket(name))])
        found = self._decoded(entries)
        return found[0] if found else None

    def _decoded(self, entries: Sequence[bytes]) -> list[Pause]:
        read = self._damage.read
        found = (read("pause", repr(entry[:80]), wire.decode_pause, entry) for entry in entries)
        return [pause for pause in found if pause is not None]


def _text(path: bytes) -> str:
    return path.decode(errors="replace")  # a damaged one leads nowhere


def _buckets(event: Event, paths: Sequence[str]) -> dict[str, str]:
    """The buckets of the first terms that the event fulfils, by their path, in order."""
    found = {}
    for path in sorted(paths):
        text = term_value(value_at(event.value, path))
        if text is not None:
            found[path] = wire.term_bucket(event.name, path, text)
    return found
