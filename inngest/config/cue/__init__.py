"""A CUE evaluator for configuration.

Covers the part of the language that describes configuration; README.md beside this file says which part.
What is left out is refused with a ``CueError`` of reason ``unsupported`` and its position, never guessed at.

>>> evaluate('port: int | *80, secure: port == 443').export()
{'port': 80, 'secure': False}
"""

from __future__ import annotations

from inngest.config.cue.api import evaluate
from inngest.config.cue.dump import dumps
from inngest.config.cue.errors import CueError, Position, Reason
from inngest.config.cue.export import Plain, Value
from inngest.config.cue.parser import TransformString, parse

__all__ = [
    "CueError",
    "Plain",
    "Position",
    "Reason",
    "TransformString",
    "Value",
    "dumps",
    "evaluate",
    "parse",
]
