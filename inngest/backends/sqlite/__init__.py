"""Everything of one process in SQLite files: survives kill -9 and power loss."""

from __future__ import annotations
