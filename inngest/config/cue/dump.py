"""CUE text of plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from inngest.config.cue.errors import is_identifier
from inngest.config.cue.lexer import KEYWORDS
from inngest.config.cue.values import format_scalar, quote


def dumps(plain: object) -> str:
    """CUE source that evaluates to ``plain``: dicts with text keys, sequences, str, int, float, bool and
    None.

    A dict at the top is written as a file of fields, anything else as one value. Raises ``TypeError`` for
    other types and ``ValueError`` for numbers that are not finite.
    """
    if isinstance(plain, Mapping):
        return "".join(f"{_label(key)}: {_value(value, 0)}\n" for key, value in plain.items())
    return _value(plain, 0) + "\n"


def _label(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a label is text, not {type(key).__name__}")
    plain = is_identifier(key) and key.isascii() and not key.startswith(("_", "#")) and key not in KEYWORDS
    return key if plain and key not in {"package", "import"} else quote(key)


def _value(value: object, depth: int) -> str:
    indent = "\t" * (depth + 1)
    match value:
        case float():
            if not math.isfinite(value):
                raise ValueError(f"CUE has no number {value}")
            text = repr(value + 0.0)  # CUE has no negative zero to write
            return text if "." in text or "e" in text else text + ".0"
        case None | bool() | int() | str() | bytes():
            return format_scalar(value)
        case Mapping():
            lines = [f"{indent}{_label(key)}: {_value(item, depth + 1)}\n" for key, item in value.items()]
            return "{\n" + "".join(lines) + "\t" * depth + "}" if lines else "{}"
        case Sequence():
            items = [f"{indent}{_value(item, depth + 1)},\n" for item in value]
            return "[\n" + "".join(items) + "\t" * depth + "]" if items else "[]"
        case _:
            raise TypeError(f"CUE has no value for {type(value).__name__}")
