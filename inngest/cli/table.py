"""What commands print: tables and texts for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

WIDEST = 100
"""Characters of one cell."""


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns of equal width, of plain text (see `plain`)."""
    cells = [list(columns), *([plain(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )
    return "\n".join(lines)


def plain(value: object, widest: int = WIDEST) -> str:
    """One line of text that does nothing to a terminal."""
    if value is None:
        return ""
    text = "".join(char if char.isprintable() else "·" for char in str(value)[: widest + 1])
    return text if len(text) <= widest else text[: widest - 1] + "…"


def lines(text: str) -> list[str]:
    """Several lines that do nothing to a terminal."""
    return ["".join(c if c.isprintable() else "·" for c in line) for line in text.expandtabs(4).splitlines()]


def short(value: object) -> str:
    """JSON in one line."""
    return plain(json.dumps(value, ensure_ascii=False))


def show_json(value: Any) -> None:
    """In ASCII: what else a value holds, halves of pairs and what moves a terminal included, is escaped."""
    click.echo(json.dumps(value, indent=2))


def duration(ms: int | None) -> str:
    """``12 ms``, ``3.4 s``, ``2 m 5 s``, ``3 h 20 m``, ``2 d 4 h``."""
    if ms is None:
        return ""
    seconds = ms // 1000
    if seconds < 1:
        return f"{ms} ms"
    if seconds < 60:
        return f"{seconds}.{ms % 1000 // 100} s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if minutes < 60:
        return f"{minutes} m {seconds % 60} s"
    return f"{hours} h {minutes % 60} m" if hours < 24 else f"{days} d {hours % 24} h"


def moment(text: str | None) -> str:
    """An RFC 3339 time in UTC, to the second."""
    return f"{text[:19].replace('T', ' ')}Z" if text else ""
