"""The whole system in one process, driven by one seed: see tests/simulation."""

from __future__ import annotations
