# ruff: noqa: S608 -- nothing but the names of columns and the marks of parameters is put into SQL
"""Events and history as rows of the data file, and records out of them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from inngest.core.model.events import RESERVED, Event
from inngest.core.model.history import History, What, encode_history
from inngest.core.model.records import RunRecord, opened
from inngest.core.model.runs import RunStatus
from inngest.ports.data import Refusal

R_contra = TypeVar("R_contra", Event, History, contravariant=True)
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


class Rows(Protocol[R_contra]):
    """The rows of some records."""

    def add(self, record: R_contra) -> None:
        """Raises for what cannot be stored, and has added nothing then."""

    def write(self, connection: sqlite3.Connection) -> None: ...


def put(
    connection: sqlite3.Connection, records: Sequence[R_contra], rows: Callable[[], Rows[R_contra]]
) -> list[Refusal]:
    """Write all that can be written, in the transaction that is open; the rest is returned."""
    refusals: dict[int, Exception] = {}
    together = rows()
    for place, record in enumerate(records):
        try:
            together.add(record)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is of this record alone
            refusals[place] = error
    connection.execute("SAVEPOINT together")
    try:
        together.write(connection)
    except _UNSTORABLE:
        connection.execute("ROLLBACK TO together")
        for place, record in enumerate(records):
            if place in refusals:
                continue
            alone = rows()
            alone.add(record)
            connection.execute("SAVEPOINT alone")
            try:
                alone.write(connection)
            except _UNSTORABLE as error:
                connection.execute("ROLLBACK TO alone")
                refusals[place] = error
            connection.execute("RELEASE alone")
    connection.execute("RELEASE together")
    return [
        Refusal(place, records[place].id, f"{type(error).__name__}: {error}")
        for place, error in sorted(refusals.items())
    ]


def _integer(value: int) -> int:
    if not _MIN <= value <= _MAX:
        raise OverflowError(f"an integer of {value.bit_length()} bits, where there is room for 63")
    return value


class EventRows:
    def __init__(self) -> None:
        self._events: list[Row] = []

    def add(self, event: Event) -> None:
        body = event.encode()  # which fails for texts that SQLite would not take either
        internal = event.name.startswith(RESERVED)
        self._events.append((event.id, event.name, _integer(event.received), internal, body))

    def write(self, connection: sqlite3.Connection) -> None:
        connection.executemany("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?)", self._events)


class HistoryRows:
    """Entries, and what they say about the records of their runs."""

    def __init__(self) -> None:
        self._entries: list[Row] = []
        self._runs: list[Row] = []
        self._events: list[Row] = []
        self._started: list[Row] = []
        self._ended: list[Row] = []

    def add(self, entry: History) -> None:
        raw = encode_history(entry)  # which fails for texts that SQLite would not take either
        what = entry.what
        if (record := opened(entry)) is not None:
            _integer(entry.at)
            row: list[object] = [getattr(record, name) for name in RUN_COLUMNS]
            row[_EVENTS_AT] = msgspec.json.encode(record.events).decode()
            self._runs.append(tuple(row))
            self._events += [(event, record.id) for event in record.events]
        elif what is What.STARTED:
            self._started.append((_integer(entry.started or entry.at), entry.run))
        elif what is What.ENDED:
            self._ended.append((RunStatus(entry.outcome), _integer(entry.at), entry.value, entry.run))
        self._entries.append((entry.run, _identity(entry.id), raw))

    def write(self, connection: sqlite3.Connection) -> None:
        # Kind by kind rather than one by one: within a run the kinds come in this order anyway.
        connection.executemany(f"INSERT OR IGNORE INTO runs VALUES ({marks(RUN_COLUMNS)})", self._runs)
        connection.executemany("INSERT OR IGNORE INTO run_events VALUES (?, ?)", self._events)
        connection.executemany(
            f"UPDATE runs SET started = ?, status = '{RunStatus.RUNNING}'"
            " WHERE id = ? AND started = 0 AND ended = 0",
            self._started,
        )
        connection.executemany(
            "UPDATE runs SET status = ?, ended = ?, output = ? WHERE id = ? AND ended = 0", self._ended
        )
        connection.executemany(
            "INSERT OR IGNORE INTO history (run, id, entry)"
            " SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM runs WHERE id = ?1)",
            self._entries,
        )


def _identity(entry_id: str) -> str | bytes:
    """As the column has it: that of an entry of before there were identities is its digest."""
    return bytes.fromhex(entry_id) if len(entry_id) == 32 and _legacy(entry_id) else entry_id


# -- out --


def text(raw: bytes) -> str:
    """The text of a column, whatever its bytes: one damaged row must not fail the reading of all."""
    return raw.decode("utf-8", "surrogateescape")


def record_of(row: Row) -> RunRecord:
    """Raises ValueError or ``msgspec.MsgspecError`` for a damaged row."""
    fields = dict(zip(RUN_COLUMNS, row, strict=True))
    fields["events"] = _decode_ids(fields["events"])
    for value in row:
        if isinstance(value, str) and not value.isascii():
            value.encode()  # see `text`
    return msgspec.convert(fields, RunRecord)


def event_ids(text: str) -> Iterable[str]:
    """Of the column ``events``. Raises ``msgspec.MsgspecError`` for what is damaged."""
    return _decode_ids(text)
