"""The schema of the engine's file, version by version. What was released never changes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final

import msgspec

from inngest.core.model.events import decode_event

# `state` holds all that belongs to a run under the run's id, so that one step touches one page and the end
# of a run is one range. Its kinds are those of the engine store.
_FIRST = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE apps (id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE functions (id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE state (run TEXT, kind INTEGER, key, value BLOB, PRIMARY KEY (run, kind, key)) WITHOUT ROWID;
CREATE TABLE expiring (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE locks (key TEXT PRIMARY KEY, run TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE outbox_events (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE outbox_history (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE stream (seq INTEGER PRIMARY KEY, body BLOB NOT NULL)
"""

# `stream` and `letters` are the event stream's: `grp` names the only group that an entry is for, if any.
_SECOND = """
CREATE TABLE seen (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE crons (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE cancellations (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
ALTER TABLE stream RENAME TO batches;
CREATE TABLE stream (seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, grp TEXT, body BLOB NOT NULL);
CREATE TABLE letters (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, grp TEXT NOT NULL, entry TEXT NOT NULL,
    at INTEGER NOT NULL, reason TEXT NOT NULL, body BLOB NOT NULL);
CREATE UNIQUE INDEX letters_entry ON letters (kind, grp, entry) WHERE entry <> ''
"""

_unpack_batch = msgspec.msgpack.Decoder(list[bytes]).decode


def _run(db: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";"):
        db.execute(statement)


def _first(db: sqlite3.Connection) -> None:
    _run(db, _FIRST)


def _second(db: sqlite3.Connection) -> None:
    """A row an entry of the stream, in place of one a write; its time is that at which it was received."""
    _run(db, _SECOND)
    at = 0
    for last, packed in db.execute("SELECT seq, body FROM batches ORDER BY seq").fetchall():
        bodies = _unpack_batch(packed)
        for seq, body in enumerate(bodies, start=last - len(bodies) + 1):
            at = max(at, decode_event(body).received)
            db.execute("INSERT INTO stream VALUES (?, ?, NULL, ?)", (seq, at, body))
    db.execute("DROP TABLE batches")


MIGRATIONS: Final[tuple[Callable[[sqlite3.Connection], None], ...]] = (_first, _second)
"""From each version to the next, the first from an empty file; each inside of a transaction."""
