"""Which failures of a file may pass, and which somebody has to mend."""

from __future__ import annotations

import errno
import sqlite3


def is_full(error: BaseException | None) -> bool:
    """Whether there is no room on the disk."""
    return _code(error) == sqlite3.SQLITE_FULL or (
        isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
    )


def is_busy(error: BaseException | None) -> bool:
    """Whether another connection has the file."""
    return _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def is_damaged(error: BaseException | None) -> bool:
    """Whether the file itself is broken, or is none of SQLite's."""
    return _code(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def may_pass(error: BaseException) -> bool:
    """Whether the same write may succeed later: the disk is full, busy or read-only, but nothing is wrong
    with the write or with the file.
    """
    return _code(error) in _PASSING and getattr(error, "sqlite_errorcode", 0) != _MOVED


_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_SCHEMA,
}
_MOVED = sqlite3.SQLITE_READONLY_DBMOVED
"""The file has been deleted or renamed: what is written now, nobody will find."""


def _code(error: BaseException | None) -> int:
    code = getattr(error, "sqlite_errorcode", 0)
    return int(code) & 0xFF  # the rest says more of the same
