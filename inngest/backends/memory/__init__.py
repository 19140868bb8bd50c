"""The engine store and the event stream of one process, in memory; the SQLite backend makes the same durable."""

from __future__ import annotations
