"""See `inngest.loops.backoff`."""

from __future__ import annotations

from inngest.loops.backoff import backoff

__all__ = ["backoff"]
