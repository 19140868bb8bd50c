"""Go's regular expressions (RE2 syntax) on Python's ``re``.

The two agree on most of the syntax; this module translates what differs and refuses what ``re`` would
understand and RE2 does not (look-around, back-references, possessive quantifiers), so that a pattern
accepted here means what it means to CUE.
"""

from __future__ import annotations

import functools
import re

from inngest.config.cue.errors import CueError, Position, Reason

_POSIX = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": r"\x00-\x7F", "blank": r"\t ",
    "cntrl": r"\x00-\x1F\x7F",
    "digit": "0-9", "graph": "!-~", "lower": "a-z", "print": " -~", "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ", "upper": "A-Z", "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
_PERL = {"d": "0-9", "s": r"\t\n\f\r ", "w": "0-9A-Za-z_"}
_REPEAT = re.compile(r"[*+?]|\{\d+(?:,\d*)?\}")


def compile_regex(pattern: str, pos: Position | None = None) -> re.Pattern[str]:
    """The compiled pattern; raises ``CueError`` at ``pos`` for one that is invalid or not supported."""
    try:
        return _compile(pattern)
    except _UnsupportedError as error:
        message, reason = f"not supported: {error} in regexp {pattern!r}", Reason.UNSUPPORTED
    except (re.error, ValueError) as error:
        message, reason = f"invalid regexp: {error}: `{pattern}`", Reason.OPERAND
    raise CueError(message, [pos] if pos else [], reason=reason)


class _UnsupportedError(ValueError):
    pass


@functools.lru_cache(maxsize=256)
def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(_Translation(pattern).run())


class _Translation:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.out: list[str] = []
        self.multiline = False

    def take(self, count: int = 1) -> str:
        piece = self.pattern[self.at : self.at + count]
        self.at += count
        return piece

    def run(self) -> str:
        repeated = False
        while self.at < len(self.pattern):
            if match := _REPEAT.match(self.pattern, self.at):
                if repeated:
                    raise ValueError(f"invalid nested repetition operator `{match.group()}`")
                self.out.append(self.take(len(match.group())))
                if self.pattern.startswith("?", self.at):
                    self.out.append(self.take())
                if any(int(n) > 1000 for n in re.findall(r"\d+", match.group())):
                    raise ValueError("invalid repeat count")
                repeated = True
                continue
            repeated = False
            char = self.take()
            if char == "\\":
                self.out.append(self.escape())
            elif char == "[":
                self.out.append(self.char_class())
            elif char == "$":
                self.out.append("$" if self.multiline else r"\Z")
            elif char == "(" and self.pattern.startswith("?", self.at):
                self.group()
            elif char == "{":
                self.out.append(r"\{")
            else:
                self.out.append(char)
        return "".join(self.out)

    def group(self) -> None:
        if match := re.compile(r"\?(?:P?<([A-Za-z_]\w*)>|:)").match(self.pattern, self.at):
            self.at = match.end()
            self.out.append(f"(?P<{match.group(1)}>" if match.group(1) else "(?:")
            return
        match = re.compile(r"\?([imsU]*)(?:-([imsU]+))?([:)])").match(self.pattern, self.at)
        if not match:
            raise ValueError("invalid or unsupported Perl syntax")
        on, off, end = match.group(1), match.group(2) or "", match.group(3)
        if "U" in on + off:
            raise _UnsupportedError("the flag U")
        if "m" in on + off:
            if self.at != 1:
                raise _UnsupportedError("the flag m inside a pattern")
            self.multiline = "m" in on and end == ")"
            if end == ":":
                raise _UnsupportedError("the flag m of a group")
        self.at = match.end()
        if end == ")" and (off or self.at != len(match.group()) + 1):
            raise _UnsupportedError("flags that change inside a pattern")
        self.out.append(f"(?{on}{'-' + off if off else ''}{end}")

    def escape(self) -> str:
        if self.at >= len(self.pattern):
            raise ValueError("trailing backslash at end of expression")
        char = self.take()
        if char in _PERL:
            return f"[{_PERL[char]}]"
        if char.lower() in _PERL:
            return f"[^{_PERL[char.lower()]}]"
        if char == "z":
            return r"\Z"
        if char in "bB":
            return rf"(?a:\{char})"
        if char == "Q":
            end = self.pattern.find("\\E", self.at)
            text = self.pattern[self.at : end if end >= 0 else None]
            self.at = end + 2 if end >= 0 else len(self.pattern)
            return re.escape(text)
        if char == "A":
            return r"\A"
        return self.literal(char)

    def literal(self, char: str) -> str:
        """An escape that stands for one character, inside or outside a class."""
        if char in "pP":
            raise _UnsupportedError("Unicode classes")
        if char == "x":
            match = re.compile(r"\{([0-9A-Fa-f]+)\}|([0-9A-Fa-f]{2})").match(self.pattern, self.at)
            if not match:
                raise ValueError(r"invalid escape sequence: `\x`")
            self.at = match.end()
            return re.escape(chr(int(match.group(1) or match.group(2), 16)))
        if char in "afnrtv":
            return "\\" + char
        if char == "0":
            match = re.compile(r"[0-7]{0,2}").match(self.pattern, self.at)
            assert match
            self.at = match.end()
            return re.escape(chr(int("0" + match.group(), 8)))
        if char.isalnum() or not char.isascii():
            raise ValueError(f"invalid escape sequence: `\\{char}`")
        return "\\" + char if not char.isspace() else re.escape(char)

    def char_class(self) -> str:
        out = ["["]
        if self.pattern.startswith("^", self.at):
            out.append(self.take())
        first = True
        while True:
            if self.at >= len(self.pattern):
                raise ValueError("missing closing ]")
            char = self.take()
            if char == "]" and not first:
                return "".join([*out, "]"])
            if match := re.compile(r"\[:(\^?)(\w+):\]").match(self.pattern, self.at - 1):
                if match.group(1):
                    raise _UnsupportedError("negated POSIX classes")
                if match.group(2) not in _POSIX:
                    raise ValueError(f"invalid character class range: `{match.group()}`")
                self.at = match.end()
                out.append(_POSIX[match.group(2)])
            elif char == "\\":
                out.append(self.class_escape())
            else:
                out.append("\\" + char if char in "[]&~|" else char)
            first = False

    def class_escape(self) -> str:
        if self.at >= len(self.pattern):
            raise ValueError("missing closing ]")
        char = self.take()
        if char in _PERL:
            return _PERL[char]
        if char.lower() in _PERL:
            return "\\" + char if char != "S" else r"\S"
        return self.literal(char)
