"""What `benchmarks/load.py` is made of: the processes around the server, the scenarios, the report."""

from __future__ import annotations
