"""The journal: what is noted is on disk before anybody goes on, in groups, whatever the disk does."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from sqlite_bench import Disk, Notes, on_disk, until
from structlog.testing import capture_logs

from inngest.backends.sqlite import journal as journals
from inngest.backends.sqlite.errors import may_pass
from inngest.backends.sqlite.journal import SCHEMA_VERSION, Journal, Statement
from inngest.core.errors import StoreUnavailable, StoreUnusable

LARGE = "x" * 200_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "engine.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    journal = Journal(path)
    await journal.open()
    yield journal
    await journal.close()


@pytest.fixture
def notes(journal: Journal) -> Notes:
    return Notes(journal)


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "RETRY_SECONDS", 0.01)


async def test_what_is_settled_is_on_disk(journal: Journal, notes: Notes, path: Path) -> None:
    notes.note("a")
    assert on_disk(path) == []
    await journal.settled()
    assert on_disk(path) == [("a", "run")]


async def test_every_commit_is_forced_to_the_disk(journal: Journal) -> None:
    def pragmas(db: sqlite3.Connection) -> list[object]:
        names = ("synchronous", "journal_mode", "locking_mode")
        return [db.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert await journal.read(pragmas) == [2, "wal", "exclusive"]


async def test_those_who_wait_share_transactions(journal: Journal, notes: Notes, path: Path) -> None:
    async def one(n: int) -> None:
        await asyncio.sleep(0)
        notes.note(f"{n:03}")
        await journal.settled()
        assert f"{n:03}" in {key for key, _ in on_disk(path)}

    await asyncio.gather(*[one(n) for n in range(100)])
    assert sum(notes.groups) == 100
    assert len(notes.groups) < 20


async def test_nothing_new_is_settled_at_once(journal: Journal, notes: Notes) -> None:
    await journal.settled()
    assert notes.groups == []


async def test_what_is_being_written_is_waited_for(journal: Journal, notes: Notes, path: Path) -> None:
    notes.note("a")
    first = asyncio.create_task(journal.settled())
    await until(lambda: bool(notes.groups))
    await journal.settled()
    assert on_disk(path) == [("a", "run")]
    await first


async def test_what_nobody_waits_for_is_written_soon(journal: Journal, notes: Notes, path: Path) -> None:
    notes.note("a")
    await until(lambda: on_disk(path) == [("a", "run")])
    notes.note("b")
    await until(lambda: len(on_disk(path)) == 2)


async def test_who_gives_up_waiting_harms_nobody(journal: Journal, notes: Notes, path: Path) -> None:
    notes.note("a")
    waiters = [asyncio.create_task(journal.settled()) for _ in range(4)]
    await asyncio.sleep(0)
    waiters[0].cancel()
    waiters[2].cancel()
    assert await asyncio.gather(waiters[1], waiters[3]) == [None, None]
    assert on_disk(path) == [("a", "run")]
    notes.note("b")
    await journal.settled()
    assert len(on_disk(path)) == 2


async def test_close_writes_what_is_left(path: Path) -> None:
    journal = Journal(path)
    notes = Notes(journal)
    await journal.open()
    notes.note("a")
    await journal.close()
    assert on_disk(path) == [("a", "run")]
    notes.note("b")
    with pytest.raises(StoreUnavailable, match="not open"):
        await journal.settled()


async def test_it_is_open_as_long_as_it_has_users(path: Path) -> None:
    journal = Journal(path)
    notes = Notes(journal)
    await asyncio.gather(journal.open(), journal.open())
    await journal.close()
    notes.note("a")
    await journal.settled()
    await journal.close()
    await journal.close()
    await journal.open()
    notes.note("b")
    await journal.settled()
    assert [key for key, _ in on_disk(path)] == ["a", "b"]
    await journal.close()


# -- a disk that fails


@pytest.mark.usefixtures("quick_retries")
async def test_a_full_disk_is_waited_for(journal: Journal, notes: Notes, path: Path) -> None:
    disk = Disk(journal)
    disk.fill()
    notes.note("a", run=LARGE)
    first = asyncio.create_task(journal.settled())
    await until(lambda: bool(journal._failure))
    notes.note("b")
    second = asyncio.create_task(journal.settled())
    await asyncio.sleep(0.05)
    assert not first.done()
    assert not second.done()
    assert on_disk(path) == []
    disk.free()
    await asyncio.gather(first, second)
    assert [key for key, _ in on_disk(path)] == ["a", "b"]
    journal.check()


@pytest.mark.usefixtures("quick_retries")
async def test_the_impatient_are_told_of_a_full_disk(journal: Journal, notes: Notes, path: Path) -> None:
    disk = Disk(journal)
    disk.fill()
    notes.note("a", run=LARGE)
    with pytest.raises(StoreUnavailable, match=r"engine\.db cannot be written: .* full"):
        await journal.settled(patient=False)
    with pytest.raises(StoreUnavailable):
        journal.check()
    with pytest.raises(StoreUnavailable):
        await journal.settled(patient=False)
    disk.free()
    await until(lambda: len(on_disk(path)) == 1)
    await until(lambda: not journal._failure)  # the file shows a commit before the loop hears of it
    await journal.settled(patient=False)


async def test_a_full_disk_does_not_keep_it_from_closing(path: Path) -> None:
    journal = Journal(path)
    notes = Notes(journal)
    await journal.open()
    Disk(journal).fill()
    notes.note("a", run=LARGE)
    waiting = asyncio.create_task(journal.settled())
    await until(lambda: bool(journal._failure))
    with pytest.raises(StoreUnusable, match=r"the last changes are lost: .* full"):
        await journal.close()
    with pytest.raises(StoreUnavailable):
        await waiting
    assert on_disk(path) == []


async def test_a_disk_that_has_room_again_at_the_last_moment_loses_nothing(path: Path) -> None:
    journal = Journal(path)
    notes = Notes(journal)
    await journal.open()
    disk = Disk(journal)
    disk.fill()
    notes.note("a", run=LARGE)
    await until(lambda: bool(journal._failure))
    disk.free()
    await journal.close()
    assert [key for key, _ in on_disk(path)] == ["a"]


async def test_the_file_has_several_users_and_the_last_one_is_told_what_is_lost(path: Path) -> None:
    journal = Journal(path)
    notes = Notes(journal)
    await asyncio.gather(journal.open(), journal.open())
    disk = Disk(journal)
    disk.fill()
    notes.note("a", run=LARGE)
    await until(lambda: bool(journal._failure))
    await journal.close()
    with pytest.raises(StoreUnusable):
        await journal.close()


@pytest.mark.usefixtures("quick_retries")
async def test_a_full_disk_is_told_of_when_it_begins_and_when_it_is_over(
    journal: Journal, notes: Notes, path: Path
) -> None:
    disk = Disk(journal)
    tries = notes.groups
    with capture_logs() as lines:
        disk.fill()
        notes.note("a", run=LARGE)
        failed = 0

        async def attempts() -> int:
            nonlocal failed
            with pytest.raises(StoreUnavailable):
                await journal.settled(patient=False)
            failed += 1
            return failed

        while await attempts() < 5:
            pass
        waiting = asyncio.create_task(journal.settled())
        disk.free()
        await waiting
    assert len(tries) == 1
    told = [line for line in lines if line["action"] == "sqlite.write"]
    assert [(line["log_level"], line["system"]) for line in told] == [
        ("warning", str(path)),
        ("info", str(path)),
    ]
    assert "full" in told[0]["error"]


# -- a journal that cannot go on


def _unbindable(notes: Notes) -> None:
    notes.note("a", run=object())


def _too_large_a_number(notes: Notes) -> None:
    notes.note("a", run=2**64)


def _no_text(notes: Notes) -> None:
    notes.note("\ud800")


def _a_source_that_fails(notes: Notes) -> None:
    def fail() -> Iterator[Statement]:
        raise RuntimeError("anything")

    notes.journal.add_source(fail)
    notes.note("a")


def _no_such_table(notes: Notes) -> None:
    def misdirected() -> Iterator[Statement]:
        yield "INSERT INTO nowhere VALUES (?)", [(1,)]

    notes.journal.add_source(misdirected)
    notes.note("a")


def _a_duplicate(notes: Notes) -> None:
    notes.note("a", "a")


DEFECTS = [
    _unbindable,
    _too_large_a_number,
    _no_text,
    _a_source_that_fails,
    _no_such_table,
    _a_duplicate,
]


@pytest.mark.parametrize("spoil", DEFECTS)
async def test_a_journal_that_cannot_go_on_tells_everybody(
    path: Path, spoil: Callable[[Notes], None]
) -> None:
    journal = Journal(path)
    notes = Notes(journal)
    await journal.open()
    watching = asyncio.create_task(journal.died())
    notes.note("before")
    await journal.settled()
    assert not watching.done()

    spoil(notes)
    waiting = asyncio.create_task(journal.settled(patient=False))
    with pytest.raises(StoreUnusable, match=r"engine\.db cannot be written"):
        await journal.settled()
    with pytest.raises(StoreUnusable):
        await waiting
    with pytest.raises(StoreUnusable):
        await watching
    # Whoever comes later, with something new or without.
    for patient in (True, False):
        with pytest.raises(StoreUnusable):
            await journal.settled(patient=patient)
    notes.note("b")
    for patient in (True, False):
        with pytest.raises(StoreUnusable):
            await journal.settled(patient=patient)
    with pytest.raises(StoreUnusable):
        journal.check()
    with pytest.raises(StoreUnusable):
        await journal.ping()
    with pytest.raises(StoreUnusable):
        await journal.died()
    with pytest.raises(StoreUnusable, match="the last changes are lost"):
        await journal.close()
    with pytest.raises(StoreUnusable):
        await journal.open()
    assert [key for key, _ in on_disk(path)] == ["before"]


def test_a_file_that_was_deleted_is_not_waited_for() -> None:
    """What is written into it would be gone with the process."""
    moved = sqlite3.OperationalError("attempt to write a readonly database")
    moved.sqlite_errorcode = sqlite3.SQLITE_READONLY_DBMOVED
    assert not may_pass(moved)
    moved.sqlite_errorcode = sqlite3.SQLITE_READONLY
    assert may_pass(moved)


# -- files that cannot be used


async def test_one_process_owns_the_file(journal: Journal, path: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path\n"
        "from inngest.backends.sqlite.journal import Journal\n"
        "asyncio.run(Journal(Path(sys.argv[1])).open())\n"
    )
    command = [sys.executable, "-c", script, str(path)]
    other = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert f"StoreUnusable: {path}: another process is using it" in other.stderr


async def test_a_file_that_is_no_database(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"to whom it may concern\n" * 1000)
    with pytest.raises(StoreUnavailable, match="file is not a database"):
        await Journal(path).open()
    assert path.read_bytes().startswith(b"to whom")


async def test_a_folder_in_its_place(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(StoreUnavailable, match="unable to open"):
        await Journal(path).open()


async def test_a_file_in_place_of_its_folder(path: Path) -> None:
    path.parent.write_text("")
    with pytest.raises(StoreUnavailable, match="exists"):
        await Journal(path).open()


async def test_a_newer_schema(path: Path) -> None:
    journal = Journal(path)
    await journal.open()
    await journal.close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    with pytest.raises(StoreUnavailable, match=f"newer release: its schema has version {SCHEMA_VERSION + 1}"):
        await Journal(path).open()


async def test_a_damaged_file(path: Path) -> None:
    journal = Journal(path)
    notes = Notes(journal)
    await journal.open()
    notes.note(*[f"{n}" for n in range(10_000)])
    await journal.close()
    content = bytearray(path.read_bytes())
    content[8192:-4096] = b"\xff" * (len(content) - 12288)
    path.write_bytes(content)
    journal = Journal(path)
    await journal.open()
    with pytest.raises(StoreUnavailable, match="malformed"):
        await journal.read(lambda db: db.execute("SELECT * FROM locks").fetchall())
    await journal.close()
