"""The things: what is stored, sent and changed."""

from __future__ import annotations
