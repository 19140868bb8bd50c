"""Durations, schedules, and how often something may happen."""

from __future__ import annotations
