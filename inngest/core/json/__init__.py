"""JSON text: its one canonical form, and what may pass the border."""

from __future__ import annotations
