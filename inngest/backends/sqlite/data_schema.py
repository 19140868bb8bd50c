# ruff: noqa: S608 -- nothing but numbers of versions is put into SQL
"""The tables of the data file, and how those of older releases become them."""

from __future__ import annotations

import sqlite3
from typing import Final

from inngest.core.errors import StoreUnusable

MIGRATIONS: Final = (
    """
    CREATE TABLE events (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, received INTEGER NOT NULL, internal INTEGER NOT NULL,
        event BLOB NOT NULL
    );
    CREATE INDEX events_internal ON events (internal, id);
    CREATE INDEX events_name ON events (name, id);
    CREATE INDEX events_received ON events (received);
    CREATE TABLE runs (
        id TEXT PRIMARY KEY, fn TEXT NOT NULL, slug TEXT NOT NULL, app TEXT NOT NULL, status TEXT NOT NULL,
        queued INTEGER NOT NULL, started INTEGER NOT NULL, ended INTEGER NOT NULL, events TEXT NOT NULL,
        version INTEGER NOT NULL, cron TEXT NOT NULL, batch TEXT NOT NULL, original TEXT NOT NULL,
        payload BLOB, output BLOB, reason TEXT NOT NULL, existing TEXT NOT NULL
    );
    CREATE INDEX runs_queued ON runs (queued, id);
    CREATE INDEX runs_started ON runs (started, id);
    CREATE INDEX runs_ended ON runs (ended, id);
    CREATE INDEX runs_fn ON runs (fn, queued, id);
    CREATE INDEX runs_status ON runs (status, queued, id);
    CREATE TABLE run_events (event TEXT NOT NULL, run TEXT NOT NULL, PRIMARY KEY (event, run)) WITHOUT ROWID;
    CREATE TABLE history (
        id INTEGER PRIMARY KEY, run TEXT NOT NULL, digest BLOB NOT NULL, entry BLOB NOT NULL,
        UNIQUE (run, digest)
    );
    CREATE TABLE cancellations (id TEXT PRIMARY KEY, cancellation BLOB NOT NULL);
    """,
    # Names only: no row is written, however many there are. The digest of an entry that has no identity of
    # its own goes on as its identity, in 16 bytes; all others are text.
    """
    ALTER TABLE history RENAME COLUMN id TO place;
    ALTER TABLE history RENAME COLUMN digest TO id;
    """,
)
"""SQL by schema version, from 1; what was released never changes."""


def migrate(connection: sqlite3.Connection, path: object) -> None:
    """Bring the file to the newest version. Raises `StoreUnusable` for a newer one."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS migrations (version INTEGER PRIMARY KEY, applied TEXT NOT NULL)"
    )
    (done,) = connection.execute("SELECT coalesce(max(version), 0) FROM migrations").fetchone()
    if done > len(MIGRATIONS):
        known = len(MIGRATIONS)
        raise StoreUnusable(
            f"{path} has schema version {done}, written by a newer release; this one knows {known}",
            system=str(path),
        )
    for version in range(done + 1, len(MIGRATIONS) + 1):
        applied = f"INSERT INTO migrations VALUES ({version}, datetime('now'));"
        connection.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[version - 1]} {applied} COMMIT;")
