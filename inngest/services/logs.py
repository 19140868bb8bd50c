"""Structured logs on standard error: JSON for machines, lines for people.

Every line has ``service`` and ``action``; what happens to a run or an event has its id. Services are bound to
the context in which their tasks run, so that whatever they call logs under their names. Lines of libraries
take the same way, with their logger's name as the action.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from inngest.services.console import shown
from inngest.services.masking import Mask

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_OUTSIDE = "inngest"
"""The service of what belongs to none of them."""

_mask = Mask()


def hide_secrets(secrets: Iterable[str]) -> None:
    """Let these texts appear in no line any more."""
    _mask.hide(secrets)


class _Lossy(io.TextIOBase):
    """A file that takes what it can: who logs has something better to do than to fail of a full disk or of a
    reader that went away.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):  # of a text that cannot be encoded, of a closed file
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._file.flush()


def configure_logs(*, level: str, style: str) -> None:
    """Set up all logging of the process.

    Args:
        level: debug, info, warn or error. Libraries are heard from warn on at the least.
        style: ``json`` or ``console``.
    """
    number = _LEVELS[level]
    colours = sys.stderr.isatty()
    renderer: Processor
    if style == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=colours)
    tail: Sequence[Processor] = (
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _mask,
        *((_printable,) if style == "console" else ()),
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _add_origin,
            *tail,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Lossy(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                _add_origin,
                *tail,
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)
    logging.captureWarnings(True)
    # What this package says by way of the standard library counts as its own.
    logging.getLogger("inngest").setLevel(number)


def _printable(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """What others have named is shown with escapes for what a terminal would obey."""
    return {
        name: "\n".join(map(shown, value.split("\n"))) if isinstance(value, str) else value
        for name, value in event.items()
    }


def _add_origin(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    event.setdefault("service", _OUTSIDE)
    name = event.pop("logger", None)
    event.setdefault("action", name or "log")
    return event
