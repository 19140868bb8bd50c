"""Journals under test: opened on a path, and reopened on what is on disk at the moment."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from inngest.backends.sqlite.journal import Journal, Statement


class Notes:
    """A source of rows for the table ``locks``."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.rows: list[tuple[str, Any]] = []
        self.groups: list[int] = []
        journal.add_source(self._statements)

    def note(self, *keys: str, run: Any = "run") -> None:
        self.rows += [(key, run) for key in keys]
        self.journal.touch()

    def _statements(self) -> Iterator[Statement]:
        rows, self.rows = self.rows, []
        self.groups.append(len(rows))
        yield "INSERT INTO locks VALUES (?, ?)", rows


def on_disk(path: Path, table: str = "locks") -> list[tuple[Any, ...]]:
    """The rows that a crash now would leave."""
    return _query(path, f"SELECT * FROM {table} ORDER BY 1")


def sizes(path: Path) -> dict[str, int]:
    tables = [name for (name,) in _query(path, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {table: _query(path, f"SELECT count(*) FROM {table}")[0][0] for table in tables}


def _query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    db = sqlite3.connect(snapshot(path))
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


def snapshot(path: Path) -> Path:
    """A copy of the files as they are: what the kernel keeps when the process dies."""
    target = path.parent / "copies" / str(time.monotonic_ns())
    target.mkdir(parents=True)
    for file in path.parent.glob(f"{path.name}*"):
        shutil.copy(file, target)
    return target / path.name


async def until(condition: Callable[[], bool]) -> None:
    """Poll for a condition."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


class Disk:
    """Lets the disk be full, and not."""

    def __init__(self, journal: Journal) -> None:
        self._db = journal._connection()

    def fill(self) -> None:
        pages = self._db.execute("PRAGMA page_count").fetchone()[0]
        self._db.execute(f"PRAGMA max_page_count = {pages}")

    def free(self) -> None:
        self._db.execute("PRAGMA max_page_count = 1000000")
