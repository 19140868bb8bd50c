"""What waited in the outbox of an older release, when entries of history had no identity."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
from data_stores import Story

from inngest.backends.sqlite.engine import SqliteEngineStore
from inngest.backends.sqlite.journal import Journal
from inngest.core.model.history import legacy_id
from inngest.core.model.transition import Record, Transition


async def test_history_of_an_older_release_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    story = Story(1).start(2).step(3, "a")
    store = SqliteEngineStore(Journal(path))
    await store.open()
    effects = [Record(entry=entry) for entry in story.entries]
    await store.commit([Transition(fn="fn-1", run="", effects=list(effects))])
    await store.close()

    older = {}
    with closing(sqlite3.connect(path)) as db:
        for seq, body in db.execute("SELECT seq, body FROM outbox_history").fetchall():
            boxes = [
                (number, msgspec.msgpack.decode(entry)) for number, entry in msgspec.msgpack.decode(body)
            ]
            for _, fields in boxes:
                entry_id = fields.pop("id")
                older[entry_id] = legacy_id(msgspec.msgpack.encode(fields))
            db.execute(
                "UPDATE outbox_history SET body = ? WHERE seq = ?", (msgspec.msgpack.encode(boxes), seq)
            )
        db.commit()
    assert len(older) == len(story.entries)

    store = SqliteEngineStore(Journal(path))
    await store.open()
    entries = (await store.history.take(9)).entries
    assert entries == [msgspec.structs.replace(entry, id=older[entry.id]) for entry in story.entries]
    await store.close()
