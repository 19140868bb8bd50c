r"""A linear-time matcher for ``matches()``: RE2's syntax, asked only for a yes or no, so without captures.

Python's ``re`` backtracks and may take exponential time on a hostile text; upstream's RE2 does not. A
pattern becomes a non-deterministic automaton whose sets of states are turned into a deterministic one as
texts are read, so a text costs one table look-up a character once its transitions are known. In fuel a
transition costs the same in each evaluation, known or not (see `fuel.evaluation`).

Not supported, and refused with a clear message: script classes such as ``\p{Greek}``, ``\Q..\E`` and
``\C``. Look-around and back-references are not part of RE2.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakSet

from inngest.core.expr.fuel import burn, evaluation
from inngest.core.remembered import Remembered

_MAX_LENGTH: Final = 8_192
_MAX_INSTRUCTIONS: Final = 4_000
_MAX_REPEAT: Final = 1_000
_MAX_NESTING: Final = 40
_MAX_TRANSITIONS: Final = 20_000
_MAX_HELD: Final = 50_000
"""Places in the states that one pattern remembers: some 3 MB, and what one evaluation has fuel to add."""
_MAX_LEARNT: Final = 200_000
"""Places and transitions that all patterns remember together: some 20 MB."""
_INSTRUCTION_BYTES: Final = 500
_INSTRUCTION_PRICE: Final = 8
"""Fuel that it takes to make one instruction of a pattern."""

Test = Callable[[str], bool]

_DIGITS: Final = frozenset("0123456789")
_SPACES: Final = frozenset("\t\n\f\r ")
_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_WORD: Final = _LETTERS | _DIGITS | {"_"}
_PERL: Final = {"d": _DIGITS, "s": _SPACES, "w": _WORD}
_POSIX: Final = {
    "alnum": _LETTERS | _DIGITS,
    "alpha": _LETTERS,
    "ascii": frozenset(map(chr, range(128))),
    "blank": frozenset("\t "),
    "cntrl": frozenset(map(chr, [*range(32), 127])),
    "digit": _DIGITS,
    "graph": frozenset(map(chr, range(33, 127))),
    "lower": frozenset(c for c in _LETTERS if c.islower()),
    "print": frozenset(map(chr, range(32, 127))),
    "punct": frozenset(map(chr, range(33, 127))) - _LETTERS - _DIGITS,
    "space": _SPACES | {"\v"},
    "upper": frozenset(c for c in _LETTERS if c.isupper()),
    "word": _WORD,
    "xdigit": _DIGITS | frozenset("abcdefABCDEF"),
}
_CONTROL: Final = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_SUBCATEGORIES: Final = {
    "C": "cfos",
    "L": "lmotu",
    "M": "cen",
    "N": "dlo",
    "P": "cdefios",
    "S": "ckmo",
    "Z": "lps",
}
_CATEGORIES: Final = frozenset(
    major + minor for major, minors in _SUBCATEGORIES.items() for minor in ["", *minors]
)


class PatternError(ValueError):
    """A pattern is malformed or uses what RE2 does not have."""


@dataclass(frozen=True, slots=True)
class _One:
    """One character that passes a test, which looks at as many things as it ``costs``."""

    test: Test
    costs: int = 1


@dataclass(frozen=True, slots=True)
class _Assert:
    r"""``\A``, ``\z``, ``^`` and ``$`` of multi-line mode (named by themselves), ``\b`` or ``\B``."""

    kind: str


@dataclass(frozen=True, slots=True)
class _Sequence:
    items: tuple[_Item, ...]


@dataclass(frozen=True, slots=True)
class _Choice:
    branches: tuple[_Item, ...]


@dataclass(frozen=True, slots=True)
class _Repeat:
    item: _Item
    least: int
    most: int | None


_Item = _One | _Assert | _Sequence | _Choice | _Repeat


class _PatternParser:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._nesting = 0
        self._flags = frozenset[str]()

    def parse(self) -> _Item:
        item = self._choice()
        if self._at < len(self._pattern):
            raise PatternError("unexpected )")
        return item

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _take(self, text: str) -> bool:
        if self._pattern.startswith(text, self._at):
            self._at += len(text)
            return True
        return False

    def _next(self, missing: str) -> str:
        char = self._peek()
        if not char:
            raise PatternError(missing)
        self._at += 1
        return char

    def _choice(self) -> _Item:
        flags = self._flags
        branches = [self._sequence()]
        while self._take("|"):
            branches.append(self._sequence())
        self._flags = flags
        return branches[0] if len(branches) == 1 else _Choice(tuple(branches))

    def _sequence(self) -> _Item:
        items: list[_Item] = []
        while self._peek() not in {"", "|", ")"}:
            atom = self._atom()
            if atom is not None:
                items.append(self._repeated(atom))
        return _Sequence(tuple(items))

    def _repeated(self, item: _Item) -> _Item:
        bounds = self._quantifier()
        if bounds is None:
            return item
        self._take("?")
        if self._peek() in {"*", "+", "?"} or (self._peek() == "{" and self._quantifier()):
            raise PatternError("a repetition of a repetition")
        return _Repeat(item, *bounds)

    def _quantifier(self) -> tuple[int, int | None] | None:
        if self._take("*"):
            return 0, None
        if self._take("+"):
            return 1, None
        if self._take("?"):
            return 0, 1
        if self._peek() != "{":
            return None
        close = self._pattern.find("}", self._at)
        low, comma, high = self._pattern[self._at + 1 : close if close > 0 else None].partition(",")
        if close < 0 or not _is_count(low) or not (_is_count(high) or not high):
            return None
        least = int(low)
        most = least if not comma else int(high) if high else None
        if max(least, most or 0) > _MAX_REPEAT or (most is not None and most < least):
            raise PatternError(f"bad repetition {self._pattern[self._at : close + 1]}")
        self._at = close + 1
        return least, most

    def _atom(self) -> _Item | None:
        char = self._next("")
        match char:
            case "(":
                return self._group()
            case "[":
                return self._bracket()
            case ".":
                return _One(_any if "s" in self._flags else _any_but_newline)
            case "^":
                return _Assert("^" if "m" in self._flags else "A")
            case "$":
                return _Assert("$" if "m" in self._flags else "z")
            case "*" | "+" | "?":
                raise PatternError(f"nothing to repeat before {char}")
            case "\\":
                return self._escape()
            case _:
                return _One(self._fold_case(char.__eq__))

    def _group(self) -> _Item | None:
        self._nesting += 1
        if self._nesting > _MAX_NESTING:
            raise PatternError("groups nest too deep")
        outer = self._flags
        if self._take("?"):
            if self._take("P<") or (not self._pattern.startswith(("<=", "<!"), self._at) and self._take("<")):
                close = self._pattern.find(">", self._at)
                if close < 0 or not self._pattern[self._at : close].isidentifier():
                    raise PatternError("bad group name")
                self._at = close + 1
            elif not self._group_flags():
                self._nesting -= 1
                return None
        item = self._choice()
        if not self._take(")"):
            raise PatternError("missing )")
        self._flags = outer
        self._nesting -= 1
        return item

    def _group_flags(self) -> bool:
        """Reads ``flags:`` or ``flags)``; true if a group body follows."""
        sign = True
        while (char := self._next("missing )")) not in {":", ")"}:
            if char == "-" and sign:
                sign = False
            elif char in "imsU":
                self._flags = self._flags | {char} if sign else self._flags - {char}
            else:
                raise PatternError(f"(?{char} is not supported")
        return char == ":"

    def _escape(self) -> _Item:
        char = self._next("trailing backslash")
        if char in "AzbB":
            return _Assert(char)
        if char in "dswDSW":
            return _One(_perl(char))
        if char in "pP":
            return _One(self._category(negated=char == "P"))
        return _One(self._fold_case(self._escaped(char).__eq__))

    def _escaped(self, char: str) -> str:
        if char in _CONTROL:
            return _CONTROL[char]
        if char == "x":
            if self._take("{"):
                close = self._pattern.find("}", self._at)
                digits = self._pattern[self._at : close] if close > 0 else ""
                self._at = close + 1
            else:
                digits = self._pattern[self._at : self._at + 2]
                self._at += 2
            if not 2 <= len(digits) <= 6 or not set(digits) <= _POSIX["xdigit"] or int(digits, 16) > 0x10FFFF:
                raise PatternError("bad \\x escape")
            return chr(int(digits, 16))
        if char == "0":
            return "\0"
        if char in _WORD:
            raise PatternError(f"\\{char} is not supported")
        return char

    def _category(self, *, negated: bool) -> Test:
        name = self._next("bad \\p class")
        if name == "{":
            close = self._pattern.find("}", self._at)
            name = self._pattern[self._at : close] if close > 0 else ""
            self._at = close + 1
        if name.startswith("^"):
            name, negated = name[1:], not negated
        if name not in _CATEGORIES:
            raise PatternError(f"\\p{{{name[:20]}}} is not supported")
        return lambda c: unicodedata.category(c).startswith(name) is not negated

    def _bracket(self) -> _One:
        negated = self._take("^")
        singles: set[str] = set()
        tests: list[Test] = [singles.__contains__]
        first = True
        while first or self._peek() != "]":
            first = False
            char = self._next("missing ]")
            if char == "[" and self._peek() == ":":
                tests.append(self._posix())
                continue
            if char == "\\":
                escaped = self._next("missing ]")
                if escaped in "dswDSW":
                    tests.append(_perl(escaped))
                    continue
                if escaped in "pP":
                    tests.append(self._category(negated=escaped == "P"))
                    continue
                char = self._escaped(escaped)
            if (test := self._range(char)) is None:
                singles.add(char)
            else:
                tests.append(test)
        self._at += 1
        folded = self._fold_case(lambda c: any(test(c) for test in tests) is not negated)
        return _One(folded, len(tests) * (3 if "i" in self._flags else 1))

    def _range(self, low: str) -> Test | None:
        """None for a character by itself."""
        following = self._pattern[self._at : self._at + 2]
        if len(following) < 2 or following[0] != "-" or following[1] == "]":
            return None
        self._at += 1
        high = self._next("missing ]")
        if high == "\\":
            high = self._escaped(self._next("missing ]"))
        if high < low:
            raise PatternError(f"bad range {low}-{high}")
        return lambda c: low <= c <= high

    def _posix(self) -> Test:
        close = self._pattern.find(":]", self._at)
        name = self._pattern[self._at + 1 : close] if close > 0 else ""
        negated = name.startswith("^")
        chars = _POSIX.get(name.removeprefix("^"))
        if chars is None:
            raise PatternError("bad [:class:]")
        self._at = close + 2
        return lambda c: (c in chars) is not negated

    def _fold_case(self, test: Test) -> Test:
        if "i" not in self._flags:
            return test
        return lambda c: test(c) or any(test(v) for v in (c.lower(), c.upper()) if len(v) == 1)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 4


def _any(_: str) -> bool:
    return True


def _any_but_newline(char: str) -> bool:
    return char != "\n"


def _perl(name: str) -> Test:
    chars = _PERL[name.lower()]
    return chars.__contains__ if name.islower() else lambda c: c not in chars


@dataclass(slots=True)
class _Instruction:
    """Consumes a character if ``test`` is set, checks a place if ``place`` is, else forks; no way out
    accepts.
    """

    test: Test | None = None
    costs: int = 0
    place: str = ""
    ways: tuple[int, ...] = ()


def _assemble(item: _Item) -> tuple[list[_Instruction], int]:
    program = [_Instruction()]
    emitted = 0

    def put(instruction: _Instruction) -> int:
        if len(program) >= _MAX_INSTRUCTIONS:
            raise PatternError("the pattern is too large")
        program.append(instruction)
        return len(program) - 1

    def emit(item: _Item, after: int) -> int:
        """Adds an item in front of the instruction ``after``; returns where it begins."""
        nonlocal emitted
        emitted += 1
        if emitted > 2 * _MAX_INSTRUCTIONS:  # repetitions of nothing add up without an instruction
            raise PatternError("the pattern is too large")
        match item:
            case _One(test, costs):
                return put(_Instruction(test=test, costs=costs, ways=(after,)))
            case _Assert(kind):
                return put(_Instruction(place=kind, ways=(after,)))
            case _Sequence(items):
                for part in reversed(items):
                    after = emit(part, after)
                return after
            case _Choice(branches):
                return put(_Instruction(ways=tuple(emit(branch, after) for branch in branches)))
            case _Repeat(body, least, most):
                entry = after
                if most is None:
                    entry = put(_Instruction())
                    program[entry].ways = (emit(body, entry), after)
                for _ in range((most or 0) - least):
                    entry = put(_Instruction(ways=(emit(body, entry), after)))
                for _ in range(least):
                    entry = emit(body, entry)
                return entry

    start = emit(item, 0)
    return program, start


def _kind(char: str) -> str:
    return "word" if char in _WORD else "newline" if char == "\n" else "other"


def _holds(place: str, before: str, after: str) -> bool:
    """Whether an assertion holds between two kinds of characters; the edge of the text is of kind ``""``."""
    match place:
        case "A":
            return before == ""
        case "z":
            return after == ""
        case "^":
            return before in {"", "newline"}
        case "$":
            return after in {"", "newline"}
        case _:
            return ((before == "word") != (after == "word")) == (place == "b")


@dataclass(slots=True, eq=False)
class _State:
    """Where a match may be, and the kind of the character before."""

    places: frozenset[int]
    before: str
    edges: dict[str, _Edge] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Edge:
    """Where a character leads to, what it takes to find that out, and the evaluation that has paid for it."""

    to: _State
    price: int
    paid: int


class Pattern:
    """A compiled pattern; raises ``PatternError`` if it cannot be."""

    def __init__(self, pattern: str) -> None:
        self.text = pattern
        self._program, self._start = _assemble(_PatternParser(pattern).parse())
        self.learnt = 0
        """Places and transitions."""
        self._used = 0
        self._forget()

    @property
    def size(self) -> int:
        """Bytes, roughly, without what is learnt from texts."""
        return _INSTRUCTION_BYTES * len(self._program) + 4 * len(self.text)

    @property
    def price(self) -> int:
        """Fuel that making it takes, once its text has been read."""
        return _INSTRUCTION_PRICE * len(self._program)

    def _forget(self) -> None:
        _learnt.less(self.learnt)
        self._states: dict[tuple[frozenset[int], str], _State] = {}
        self._transitions = self._held = self.learnt = 0
        self._first = self._state(frozenset({self._start}), "")

    def search(self, text: str) -> bool:
        """Whether the pattern matches anywhere in ``text``."""
        now = evaluation()
        return _in_use(now).setdefault(self.text, self)._search(text, now)

    def _search(self, text: str, now: int) -> bool:
        burn(1 + len(text) // 4)
        if self._used != now:
            self._used = now
            if self._transitions >= _MAX_TRANSITIONS or self._held >= _MAX_HELD:
                self._forget()
        state = self._first
        for char in text:
            edge = state.edges.get(char) or self._step(state, char)
            if edge.paid != now:
                burn(edge.price)
                edge.paid = now
            state = edge.to
            if state is _ACCEPTED:
                return True
        reached, price = self._reach(state, "")
        burn(price)
        return reached is None

    def _state(self, places: frozenset[int], before: str) -> _State:
        key = (places, before)
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = _State(places, before)
            self._held += len(places)
        return state

    def _step(self, state: _State, char: str) -> _Edge:
        held = self._held
        kind = _kind(char)
        reached, price = self._reach(state, kind)
        if reached is None:
            following = _ACCEPTED
        else:
            price += sum(instruction.costs for instruction in reached)
            places = {
                instruction.ways[0] for instruction in reached if instruction.test and instruction.test(char)
            }
            following = self._state(frozenset(places | {self._start}), kind)
        edge = state.edges[char] = _Edge(following, price, -1)
        self._transitions += 1
        self.learnt += 1 + self._held - held
        _learnt.more(self, 1 + self._held - held)
        return edge

    def _reach(self, state: _State, after: str) -> tuple[list[_Instruction] | None, int]:
        """The consuming instructions reachable from a state, None if a match ends here; and its price, which
        does not depend on the order in which the places are looked at.
        """
        reached: list[_Instruction] = []
        seen = set(state.places)
        pending = list(seen)
        while pending:
            instruction = self._program[pending.pop()]
            if instruction.test is not None:
                reached.append(instruction)
                continue
            if not instruction.ways:
                return None, 1 + len(state.places)
            if instruction.place and not _holds(instruction.place, state.before, after):
                continue
            fresh = [way for way in instruction.ways if way not in seen]
            seen.update(fresh)
            pending.extend(fresh)
        return reached, 1 + len(seen)


_ACCEPTED: Final = _State(frozenset(), "")


class _Learnt:
    """What all patterns have learnt from texts, so that they forget it before it is too much together."""

    def __init__(self) -> None:
        self.held = 0
        self._by: WeakSet[Pattern] = WeakSet()

    def more(self, pattern: Pattern, amount: int) -> None:
        self._by.add(pattern)
        self.held += amount

    def less(self, amount: int) -> None:
        self.held = max(self.held - amount, 0)

    def trim(self) -> None:
        """Called between evaluations."""
        if self.held > _MAX_LEARNT:
            for each in list(self._by):
                each._forget()
            self._by.clear()
            self.held = 0


_learnt: Final = _Learnt()
_patterns: Final = Remembered[str, Pattern](8 << 20)

_using: Final[dict[str, Pattern]] = {}
_using_in: Final = [0]


def _in_use(now: int) -> dict[str, Pattern]:
    """The patterns of this evaluation by their texts: what was burnt for them holds to its end, whatever is
    forgotten meanwhile.
    """
    if _using_in[0] != now:
        _using_in[0] = now
        _using.clear()
        _learnt.trim()
    return _using


def compile_pattern(pattern: str) -> Pattern:
    """``Pattern(pattern)``, remembered. Raises PatternError, also for what is longer than any expression: a
    pattern may come from an event. It burns the price of making it, once in an evaluation.
    """
    if len(pattern) > _MAX_LENGTH:
        raise PatternError(f"the pattern is longer than {_MAX_LENGTH} characters")
    using = _in_use(evaluation())
    if (known := using.get(pattern)) is not None:
        return known
    burn(1 + len(pattern))
    known = _patterns.get(pattern)
    if known is None:
        known = Pattern(pattern)
        _patterns.put(pattern, known, known.size)
    burn(known.price)
    using[pattern] = known
    return known
