# ruff: noqa: S608 -- nothing but the names of columns and the marks of parameters is put into SQL
"""Events and history as rows of the data file, and records out of them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from inngest.core.model.events import RESERVED, Event
from inngest.core.model.history import History, What, encode_history
from inngest.core.model.records import RunRecord, opened
from inngest.core.model.runs import RunStatus
from inngest.ports.data import Refusal

T = TypeVar("T", Event, History)
R = TypeVar("R")
Row = tuple[Any, ...]

RUN_COLUMNS: Final = RunRecord.__struct_fields__
RUN: Final = f"SELECT {', '.join(RUN_COLUMNS)} FROM runs"
LISTED: Final = ", ".join("NULL" if name == "output" else f"runs.{name}" for name in RUN_COLUMNS)
"""The columns of a run without its output."""

_EVENTS_AT = RUN_COLUMNS.index("events")
_decode_ids = msgspec.json.Decoder(list[str]).decode
_MIN, _MAX = -(1 << 63), (1 << 63) - 1
_legacy = re.compile("[0-9a-f]{32}").fullmatch


def marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


# -- in --


_UNSTORABLE = (
    OverflowError,
    UnicodeError,
    sqlite3.DataError,  # larger than the file's limit
    sqlite3.IntegrityError,
)
"""What SQLite says of a row, and not of the file or the disk."""


def put(
    connection: sqlite3.Connection,
    records: Sequence[T],
    row_of: Callable[[T], R],
    write: Callable[[sqlite3.Connection, Sequence[R]], None],
) -> list[Refusal]:
    """Write all that can be written, in the transaction that is open; the rest is returned."""
    refusals: list[Refusal] = []
    rows: list[tuple[int, R]] = []
    for place, record in enumerate(records):
        try:
            rows.append((place, row_of(record)))
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is of this record alone
            refusals.append(_refusal(place, record, error))
    connection.execute("SAVEPOINT together")
    try:
        write(connection, [row for _, row in rows])
    except _UNSTORABLE:
        connection.execute("ROLLBACK TO together")
        for place, row in rows:
            connection.execute("SAVEPOINT alone")
            try:
                write(connection, [row])
            except _UNSTORABLE as error:
                connection.execute("ROLLBACK TO alone")
                refusals.append(_refusal(place, records[place], error))
            connection.execute("RELEASE alone")
    connection.execute("RELEASE together")
    return sorted(refusals, key=lambda each: each.place)


def _refusal(place: int, record: Event | History, error: Exception) -> Refusal:
    return Refusal(place, record.id, f"{type(error).__name__}: {error}")


def _checked(row: Row) -> Row:
    """Raises OverflowError, UnicodeEncodeError and TypeError for what SQLite has no place for."""
    for value in row:
        if isinstance(value, str):
            if not value.isascii():
                value.encode()
        elif isinstance(value, int):
            if not _MIN <= value <= _MAX:
                raise OverflowError(f"an integer of {value.bit_length()} bits, where there is room for 63")
        elif value is not None and not isinstance(value, bytes):
            raise TypeError(f"a {type(value).__name__}, which no column takes")
    return row


def event_row(event: Event) -> Row:
    internal = event.name.startswith(RESERVED)
    return _checked((event.id, event.name, event.received, internal, event.encode()))


def write_events(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    connection.executemany("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?)", rows)


class HistoryRows(Struct, gc=False):
    """What an entry writes: itself, and what it says about the record of its run."""

    entry: Row
    run: Row | None = None
    events: list[tuple[str, str]] = []
    started: Row | None = None
    ended: Row | None = None


def history_rows(entry: History) -> HistoryRows:
    rows = HistoryRows(_checked((entry.run, _identity(entry.id), encode_history(entry))))
    record = opened(entry)
    if record is not None:
        run: list[object] = [getattr(record, name) for name in RUN_COLUMNS]
        run[_EVENTS_AT] = msgspec.json.encode(record.events).decode()
        rows.run = _checked(tuple(run))
        rows.events = [(event, record.id) for event in record.events]
    elif entry.what is What.STARTED:
        rows.started = _checked((entry.started or entry.at, entry.run))
    elif entry.what is What.ENDED:
        rows.ended = _checked((RunStatus(entry.outcome), entry.at, entry.value, entry.run))
    return rows


def _identity(entry_id: str) -> str | bytes:
    """As the column has it: that of an entry of before there were identities is its digest."""
    return bytes.fromhex(entry_id) if _legacy(entry_id) else entry_id


def write_history(connection: sqlite3.Connection, rows: Sequence[HistoryRows]) -> None:
    # Kind by kind rather than one by one: within a run the kinds come in this order anyway.
    connection.executemany(
        f"INSERT OR IGNORE INTO runs VALUES ({marks(RUN_COLUMNS)})",
        [each.run for each in rows if each.run is not None],
    )
    connection.executemany(
        "INSERT OR IGNORE INTO run_events VALUES (?, ?)", [pair for each in rows for pair in each.events]
    )
    connection.executemany(
        f"UPDATE runs SET started = ?, status = '{RunStatus.RUNNING}'"
        " WHERE id = ? AND started = 0 AND ended = 0",
        [each.started for each in rows if each.started is not None],
    )
    connection.executemany(
        "UPDATE runs SET status = ?, ended = ?, output = ? WHERE id = ? AND ended = 0",
        [each.ended for each in rows if each.ended is not None],
    )
    connection.executemany(
        "INSERT OR IGNORE INTO history (run, id, entry)"
        " SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM runs WHERE id = ?1)",
        [each.entry for each in rows],
    )


# -- out --


def text(raw: bytes) -> str:
    """The text of a column, whatever its bytes: one damaged row must not fail the reading of all."""
    return raw.decode("utf-8", "surrogateescape")


def record_of(row: Row) -> RunRecord:
    """Raises ValueError or ``msgspec.MsgspecError`` for a damaged row."""
    fields = dict(zip(RUN_COLUMNS, row, strict=True))
    fields["events"] = _decode_ids(fields["events"])
    record = msgspec.convert(fields, RunRecord)
    _checked(row)
    return record


def event_ids(text: str) -> Iterable[str]:
    """Of the column ``events``. Raises ``msgspec.MsgspecError`` for what is damaged."""
    return _decode_ids(text)
