"""The engine store and the event stream of one process; the SQLite backend makes the same durable."""

from __future__ import annotations
