"""The decisions: pure functions from what is known to a `Transition`."""

from __future__ import annotations
