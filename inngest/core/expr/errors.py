"""The run-time error of the expression language."""

from __future__ import annotations

from typing import Final

from inngest.core.errors import InngestError

BEYOND_PYTHON: Final = (ArithmeticError, ValueError, RecursionError, MemoryError)
"""What Python raises where it cannot compute a value, as for what is too large or too deep for it."""


class EvaluationError(InngestError):
    """An expression compiled but has no value for these variables, as in a division by zero.

    ``message`` says what failed; ``source`` is the whole expression, once it is known.
    """

    def __init__(self, message: str, *, source: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.source = source

    def __str__(self) -> str:
        return self.message if self.source is None else f"{self.message} in {self.source!r}"
