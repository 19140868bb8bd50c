"""The server-side scripts, assembled of the files in ``lua/``."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files

from msgspec import Struct

_PARTITIONS = ("keys", "ring", "capacity", "items")


class Script(Struct, frozen=True):
    """A script and the digest by which the server knows it."""

    name: str
    source: str
    sha: str


def _assemble(name: str, *parts: str, writes: bool = True) -> Script:
    # With the first line the server checks, before a script starts, whether it may write at all.
    folder = files(__package__).joinpath("lua")
    texts = [folder.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in (*parts, name)]
    source = "\n".join(["#!lua" if writes else "#!lua flags=no-writes", *texts])
    return Script(name, source, sha1(source.encode(), usedforsecurity=False).hexdigest())


COMMIT = _assemble(
    "commit",
    *_PARTITIONS,
    "states",
    "pauses",
    "transition",
    "effects_start",
    "effects_queue",
    "effects_run",
)
LEASE = _assemble("lease", *_PARTITIONS, "states")
EXTEND = _assemble("extend", *_PARTITIONS)
HAND_BACK = _assemble("hand_back", *_PARTITIONS)
ALIVE = _assemble("alive", *_PARTITIONS)
DISCARD = _assemble("discard", *_PARTITIONS)
RUN = _assemble("run", "keys", "states", writes=False)
ITEM = _assemble("item", *_PARTITIONS, writes=False)
RUN_ITEMS = _assemble("run_items", *_PARTITIONS, writes=False)
ORPHANS = _assemble("orphans", "keys", writes=False)
PUT_APP = _assemble("put_app", "keys", "ring", "capacity")
OUTBOX_TAKE = _assemble("outbox_take", "keys")
OUTBOX_ACK = _assemble("outbox_ack", "keys")
STREAM_OPEN = _assemble("stream_open", "stream")
STREAM_CLAIM = _assemble("stream_claim", "stream")
STREAM_TRIM = _assemble("stream_trim", "stream")
STREAM_BACKLOG = _assemble("stream_backlog", "stream", writes=False)

SCRIPTS = {
    script.sha: script
    for script in (
        COMMIT,
        LEASE,
        EXTEND,
        HAND_BACK,
        ALIVE,
        DISCARD,
        RUN,
        ITEM,
        RUN_ITEMS,
        ORPHANS,
        PUT_APP,
        OUTBOX_TAKE,
        OUTBOX_ACK,
        STREAM_OPEN,
        STREAM_CLAIM,
        STREAM_TRIM,
        STREAM_BACKLOG,
    )
}
