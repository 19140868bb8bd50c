"""The server-side scripts, assembled of the files in ``lua/``."""

from __future__ import annotations

import re
from hashlib import sha1
from importlib.resources import files
from typing import get_args

from msgspec import Struct

from inngest.core.model.transition import Effect

_READS = "no-writes"
_FREES = "allow-oom"
"""Of scripts that a server needs to get on when its memory is full."""
_PARTITIONS = ("keys", "ring", "capacity", "items")


class Script(Struct, frozen=True):
    """A script and the digest by which the server knows it. ``writes``: it may write."""

    name: str
    source: str
    sha: str
    writes: bool = True


def _assemble(name: str, *parts: str, flags: str = "") -> Script:
    # With the first line the server checks, before a script starts, whether it may write at all, and whether
    # there is memory for it.
    folder = files(__package__).joinpath("lua")
    texts = [folder.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in (*parts, name)]
    source = "\n".join([f"#!lua flags={flags}" if flags else "#!lua", *texts])
    sha = sha1(source.encode(), usedforsecurity=False).hexdigest()
    return Script(name, source, sha, flags != _READS)


_FUNCTION = re.compile(
    r"^(?:function effects\.(\w+)|effects\['([\w-]+)'\] = function)\(([^)]*)\)", re.MULTILINE
)


def effects_of(source: str) -> dict[str, list[str]]:
    """The parameters of each effect's function in a script, by its tag."""
    return {
        word or quoted: [name.strip() for name in names.split(",") if name.strip()]
        for word, quoted, names in _FUNCTION.findall(source)
    }


COMMIT = _assemble(
    "commit",
    *_PARTITIONS,
    "states",
    "pauses",
    "parts",
    "transition",
    "effects_start",
    "effects_queue",
    "effects_run",
    flags=_FREES,
)
_TAGS = {effect.__struct_config__.tag for effect in get_args(Effect)}
if effects_of(COMMIT.source).keys() != _TAGS:
    raise TypeError(f"effects without a function, or the reverse: {effects_of(COMMIT.source).keys() ^ _TAGS}")
LEASE = _assemble("lease", *_PARTITIONS, "states", flags=_FREES)
EXTEND = _assemble("extend", *_PARTITIONS, flags=_FREES)
HAND_BACK = _assemble("hand_back", *_PARTITIONS, flags=_FREES)
ALIVE = _assemble("alive", *_PARTITIONS, flags=_FREES)
DISCARD = _assemble("discard", *_PARTITIONS, flags=_FREES)
RUN = _assemble("run", "keys", "states", flags=_READS)
ITEM = _assemble("item", *_PARTITIONS, flags=_READS)
RUN_ITEMS = _assemble("run_items", *_PARTITIONS, flags=_READS)
ORPHANS = _assemble("orphans", *_PARTITIONS, "pauses", "parts", flags=_FREES)
PUT_APP = _assemble("put_app", "keys", "ring", "capacity")
OUTBOX_TAKE = _assemble("outbox_take", "keys", flags=_FREES)
OUTBOX_ACK = _assemble("outbox_ack", "keys", flags=_FREES)
STREAM_OPEN = _assemble("stream_open", "stream")
STREAM_SIGN = _assemble("stream_sign", "stream", flags=_FREES)
STREAM_CLAIM = _assemble("stream_claim", "stream", flags=_FREES)
STREAM_TRIM = _assemble("stream_trim", "stream", flags=_FREES)
STREAM_BACKLOG = _assemble("stream_backlog", "stream", flags=_READS)
STREAM_SETTLED = _assemble("stream_settled", "stream", flags=_READS)
LETTERS_BURY = _assemble("letters_bury", "stream", "letters")
LETTERS_REVIVE = _assemble("letters_revive", "stream", "letters")
LETTERS_DISCARD = _assemble("letters_discard", "stream", "letters", flags=_FREES)

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
        STREAM_SIGN,
        STREAM_CLAIM,
        STREAM_TRIM,
        STREAM_BACKLOG,
        STREAM_SETTLED,
        LETTERS_BURY,
        LETTERS_REVIVE,
        LETTERS_DISCARD,
    )
}
