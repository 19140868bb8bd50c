"""What the data file promises beyond the words of the port."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from data_stores import T0, Story, event, name
from msgspec import Raw, Struct
from structlog.testing import capture_logs

from inngest.backends.sqlite.data import SqliteDataStore
from inngest.backends.sqlite.data_schema import MIGRATIONS
from inngest.core.errors import StoreRefused, StoreUnavailable, StoreUnusable
from inngest.core.model.history import History, Outcome, What, decode_history, legacy_id
from inngest.core.model.runs import RunStatus
from inngest.ports.data import EventFilter, RunFilter, TimeField

ALL, EVERY = RunFilter(), EventFilter(internal=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteDataStore]:
    store = SqliteDataStore(path)
    await store.open()
    yield store
    await store.close()


async def write(store: SqliteDataStore, work: Callable[[sqlite3.Connection], Any]) -> Any:
    """Do something to the file in the writer's thread, outside of a transaction."""
    return await store._submit(store._writer, lambda: work(store._connection(writable=True)))


async def edit(store: SqliteDataStore, *statements: str) -> None:
    await write(store, lambda connection: [connection.execute(statement) for statement in statements])


async def test_what_is_acknowledged_is_on_the_disk(store: SqliteDataStore) -> None:
    def settings(connection: sqlite3.Connection) -> list[Any]:
        names = ("synchronous", "journal_mode", "auto_vacuum")
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    full, incremental = 2, 2
    assert await write(store, settings) == [full, "wal", incremental]


# -- what an older release has written --


class Unnamed(Struct, omit_defaults=True):
    """An entry as it was before entries had an identity."""

    what: What
    run: str
    fn: str
    at: int
    step: str = ""
    name: str = ""
    op: str = ""
    attempt: int = 0
    outcome: str = ""
    queued: int = 0
    started: int = 0
    value: bytes | None = None
    info: dict[str, Any] | None = None


def unnamed(entry: History) -> bytes:
    fields = msgspec.structs.asdict(entry)
    del fields["id"]
    return msgspec.msgpack.encode(Unnamed(**fields))


def old_file(path: Path, story: Story) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(
            "CREATE TABLE migrations (version INTEGER PRIMARY KEY, applied TEXT NOT NULL);"
            f"{MIGRATIONS[0]} INSERT INTO migrations VALUES (1, '');"
        )
        connection.execute(
            "INSERT INTO runs VALUES"
            " (?, 'fn-1', 'app-fn-1', 'app', 'Running', ?, ?, 0, ?, 3, '', '', '', NULL, NULL, '', '')",
            (story.id, T0 + 1, T0 + 2, msgspec.json.encode([name(0)]).decode()),
        )
        connection.execute("INSERT INTO run_events VALUES (?, ?)", (name(0), story.id))
        for entry in story.entries:
            raw = unnamed(entry)
            digest = bytes.fromhex(legacy_id(raw))
            connection.execute("INSERT INTO history VALUES (NULL, ?, ?, ?)", (story.id, digest, raw))


async def test_an_older_file_is_carried_over(path: Path) -> None:
    story = Story(1, events=[name(0)]).start(2).step(3, "a").step(4, "b", b"2")
    old_file(path, story)
    store = SqliteDataStore(path)
    await store.open()
    found = (await store.history([story.id]))[story.id]
    assert [unnamed(entry) for entry in found] == [unnamed(entry) for entry in story.entries]
    assert len({entry.id for entry in found}) == len(story.entries)
    assert [run.id for run in (await store.runs_of([name(0)]))[name(0)]] == [story.id]

    # What was in the outbox at the time of the change comes without an identity, and perhaps once more.
    await store.put_history([decode_history(unnamed(entry)) for entry in story.entries])
    assert (await store.history([story.id]))[story.id] == found
    newer = story.step(5, "c").end(6).entries[-2:]
    late = decode_history(unnamed(Story(1).step(7, "late").entries[-1]))
    for _ in range(2):
        await store.put_history([*newer, late])
    assert (await store.history([story.id]))[story.id] == [*found, *newer, late]
    await store.close()

    again = SqliteDataStore(path)
    await again.open()
    assert (await again.history([story.id]))[story.id] == [*found, *newer, late]
    record = await again.run(story.id)
    assert record is not None
    assert record.status is RunStatus.COMPLETED
    await again.close()


# -- damaged rows --

OF_RUN = [
    "status = 'Exploded'",
    "events = '[1'",
    "events = '{}'",
    "version = 'x'",
    "queued = queued || 'x'",
    "slug = CAST(x'ff' AS TEXT)",
    "slug = x'00'",
    "payload = 5",
]


@pytest.mark.parametrize("damage", OF_RUN)
async def test_a_damaged_run_is_left_out(store: SqliteDataStore, damage: str) -> None:
    stories = [Story(at, events=[name(0)]) for at in range(9)]
    await store.put_history([entry for story in stories for entry in story.entries])
    bad = [stories[at].id for at in (0, 4, 5, 8)]
    await edit(store, *(f"UPDATE runs SET {damage} WHERE id = '{run}'" for run in bad))
    good = [story.id for story in stories if story.id not in bad]

    with capture_logs() as logs:
        for order in TimeField:
            assert sorted([run.id for run in await store.runs(ALL, order=order, limit=99)]) == good
        # Not a short page, which would be taken for the last.
        first = await store.runs(ALL, limit=4)
        assert [run.id for run in first] == good[:0:-1]
        assert [run.id for run in (await store.runs_of([name(0)]))[name(0)]] == good
        assert [await store.run(run) for run in bad] == [None] * 4
    assert store.damaged >= 5 * len(bad)
    told = [(line["what"], line["key"]) for line in logs if line["action"] == "store.damaged"]
    assert sorted(told) == [("run", run) for run in bad]


@pytest.mark.parametrize("damage", ["event = x'7b'", "event = 5", "event = '[]'", "event = x'7b7d'"])
async def test_a_damaged_event_is_left_out(store: SqliteDataStore, damage: str) -> None:
    await store.put_events([event(at) for at in range(9)])
    bad = [name(at) for at in (0, 4, 5, 8)]
    await edit(store, *(f"UPDATE events SET {damage} WHERE id = '{each}'" for each in bad))
    good = [name(at) for at in range(9) if name(at) not in bad]
    assert [each.id for each in await store.events(EVERY, limit=4)] == good[:0:-1]
    assert [each.id for each in await store.events(EVERY, limit=99)] == good[::-1]
    assert [each.id for each in await store.events_by_id([*bad, *good])] == good
    assert store.damaged


@pytest.mark.parametrize("damage", ["entry = x'81'", "entry = x'80'", "entry = 'x'", "entry = 7"])
async def test_a_damaged_entry_is_left_out(store: SqliteDataStore, damage: str) -> None:
    story, other = Story(1).start(2).step(3, "a").end(4), Story(2)
    await store.put_history([*story.entries, *other.entries])
    await edit(store, f"UPDATE history SET {damage} WHERE id = '{story.entries[2].id}'")
    found = await store.history([story.id, other.id])
    assert found == {story.id: [*story.entries[:2], story.entries[3]], other.id: other.entries}
    assert store.damaged == 1


@pytest.mark.parametrize("damage", [*OF_RUN, "id = CAST(x'ff' AS TEXT)"])
async def test_damage_is_forgotten_in_its_time(store: SqliteDataStore, damage: str) -> None:
    bad, good = Story(1, events=[name(1)]).start(2).end(3), Story(2, events=[name(1)]).start(3).end(4)
    await store.put_history([*bad.entries, *good.entries])
    await edit(store, f"UPDATE runs SET {damage} WHERE id = '{bad.id}'")
    while await store.prune(T0 + 10):
        pass

    def left(connection: sqlite3.Connection) -> int:
        return int(connection.execute("SELECT count(*) FROM runs").fetchone()[0])

    assert await write(store, left) == 0


async def test_a_file_that_is_none_is_said_to_be(path: Path) -> None:
    path.write_bytes(b"this is not a database" * 1000)
    store = SqliteDataStore(path)
    with pytest.raises(StoreUnusable, match=r"history\.db: file is not a database") as caught:
        await store.open()
    assert caught.value.system == str(path)
    await store.close()


async def test_damage_to_the_file_itself_is_no_passing_failure(path: Path) -> None:
    store = SqliteDataStore(path)
    await store.open()
    await store.put_events([event(at, data=Raw(b'{"a":"%b"}' % (b"x" * 900))) for at in range(500)])
    await store.close()
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xee" * (path.stat().st_size - 8192))
    store = SqliteDataStore(path)
    with suppress(StoreUnusable):
        await store.open()
    with pytest.raises(StoreUnusable, match="malformed"):
        await store.events(EVERY, limit=500)
    await store.close()


# -- what cannot be stored --


async def test_what_is_larger_than_a_row_may_be_is_refused_alone(store: SqliteDataStore) -> None:
    await write(store, lambda connection: connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 20_000))
    large = event(2, data=Raw(b'{"a":"%b"}' % (b"x" * 30_000)))
    with pytest.raises(StoreRefused, match=f"'{large.id}' at 1: DataError") as caught:
        await store.put_events([event(1), large, event(3)])
    assert [each.place for each in caught.value.facts["refusals"]] == [1]  # type: ignore[attr-defined]
    assert [each.id for each in await store.events(EVERY, limit=9)] == [name(3), name(1)]

    story = Story(1).start(2).step(3, "a", b"x" * 30_000).step(4, "b").end(5)
    with pytest.raises(StoreRefused, match=f"'{story.entries[2].id}' at 2: DataError"):
        await store.put_history(story.entries)
    kept = [*story.entries[:2], *story.entries[3:]]
    assert (await store.history([story.id]))[story.id] == kept
    record = await store.run(story.id)
    assert record is not None
    assert record.status is RunStatus.COMPLETED


async def test_a_request_that_no_file_understands_is_refused(store: SqliteDataStore) -> None:
    with pytest.raises(StoreRefused, match="too large"):
        await store.runs(RunFilter(since=2**70), limit=1)
    with pytest.raises(StoreRefused, match="surrogates"):
        await store.run("\ud800")


# -- a failing disk --


def pages(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA page_count").fetchone()[0])


async def test_a_full_disk_takes_nothing_by_halves(store: SqliteDataStore) -> None:
    await store.put_events([event(0)])
    story = Story(1).start(2)
    await store.put_history(story.entries)
    await write(store, lambda db: db.execute(f"PRAGMA max_page_count = {pages(db) + 5}").fetchall())

    story.step(3, "a", b'"%b"' % (b"x" * 1000)).step(4, "b", b'"%b"' % (b"x" * 100_000)).end(5)
    events = [event(at, data=Raw(b'{"a":"%b"}' % (b"x" * 2000))) for at in range(1, 40)]
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="full"):
            await store.put_history(story.entries[2:])
        with pytest.raises(StoreUnavailable, match="full"):
            await store.put_events(events)
    assert (await store.history([story.id]))[story.id] == story.entries[:2]
    assert [each.id for each in await store.events(EVERY, limit=99)] == [name(0)]
    assert (await store.runs(ALL, limit=1))[0].ended == 0

    await write(store, lambda db: db.execute("PRAGMA max_page_count = 100000").fetchall())
    await store.put_history(story.entries[2:])
    await store.put_events(events)
    assert (await store.history([story.id]))[story.id] == story.entries
    assert len(await store.events(EVERY, limit=99)) == 40


async def test_a_connection_that_cannot_go_back_is_replaced(store: SqliteDataStore) -> None:
    def forbid(action: int, what: str | None, *_: object) -> int:
        forbidden = action == sqlite3.SQLITE_TRANSACTION and what in {"COMMIT", "ROLLBACK"}
        return sqlite3.SQLITE_DENY if forbidden else sqlite3.SQLITE_OK

    await write(store, lambda connection: connection.set_authorizer(forbid))
    with pytest.raises(StoreUnavailable):
        await store.put_events([event(1)])
    await store.put_events([event(2)])
    assert [each.id for each in await store.events(EVERY, limit=9)] == [name(2)]


def test_an_entry_without_an_identity_gets_that_of_its_bytes() -> None:
    entry = Story(1).step(2, "a", outcome=Outcome.OK).entries[-1]
    raw = unnamed(entry)
    first, second = decode_history(raw), decode_history(raw)
    assert first == second
    assert msgspec.structs.replace(first, id=entry.id) == entry
    with pytest.raises(msgspec.ValidationError):
        decode_history(msgspec.msgpack.encode({"id": 5, "what": "run.ended"}))
    with pytest.raises(msgspec.ValidationError):
        decode_history(msgspec.msgpack.encode({"what": "run.ended"}))
