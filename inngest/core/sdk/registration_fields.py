"""Reading the objects of a registration, in the spelling of any SDK.

Every mistake is collected with its path, so that a refused sync names all of them at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from inngest.core.errors import ExpressionError, InvalidFunction
from inngest.core.expr import compile_expression
from inngest.core.timing.durations import InvalidDuration, format_duration, parse_duration

CONFIG_INVALID = "config_invalid"
EVENT = frozenset({"event"})


class Fields:
    """One JSON object of a registration.

    Names are compared without regard to case and underscores (wire protocol section 1.6); ``null``, ``""``
    and ``[]`` count as absent. A reading method that finds a mistake adds it to ``problems`` and returns its
    default, or an empty value.

    ``where`` names the function, ``path`` the place in it: ``functions[2] "app-fn"`` and ``throttle``.
    """

    __slots__ = ("_values", "path", "problems", "where")

    def __init__(
        self, value: Mapping[str, Any], problems: list[InvalidFunction], *, where: str = "", path: str = ""
    ) -> None:
        self._values = {_plain(name): item for name, item in value.items() if item not in (None, "", [])}
        self.problems = problems
        self.where = where
        self.path = path

    def at(self, name: str = "") -> str:
        """The full path of a field, or of this object."""
        inner = ".".join(filter(None, (self.path, name)))
        return ": ".join(filter(None, (self.where, inner)))

    def fail(self, message: str, name: str = "", *, code: str = CONFIG_INVALID) -> None:
        self.problems.append(InvalidFunction(message, path=self.at(name), code=code))

    def rooted(self, where: str) -> Fields:
        """The same object as the root of its paths, under the name ``where``."""
        return Fields(self._values, self.problems, where=where)

    def has(self, name: str) -> bool:
        return _plain(name) in self._values

    def get(self, name: str) -> Any:
        """The value as it came; None if it is absent."""
        return self._values.get(_plain(name))

    def text(self, name: str, *, required: bool = False, most: int = 0, code: str = CONFIG_INVALID) -> str:
        """A string of at most ``most`` characters, if that is given."""
        value = self.get(name)
        if value is None:
            if required:
                self.fail("is missing", name, code=code)
            return ""
        if not isinstance(value, str):
            self.fail(f"must be a string, not {_kind(value)}", name, code=code)
            return ""
        if most and len(value) > most:
            self.fail(f"is longer than {most} characters: {value[:40]}…", name, code=code)
            return ""
        return value

    def whole(
        self,
        name: str,
        *,
        low: int,
        high: int | None = None,
        default: int | None = None,
        zero: int | None = None,
        code: str = CONFIG_INVALID,
    ) -> int:
        """An integer within its bounds; required unless it has a ``default``. 0 stands for ``zero``."""
        value = self.get(name)
        if value is None:
            if default is None:
                self.fail("is missing", name, code=code)
            return default or 0
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            self.fail(f"must be a whole number, not {_kind(value)}", name, code=code)
            return default or 0
        if value == 0 and zero is not None:
            return zero
        if value < low:
            self.fail(f"must be at least {low}, not {_kind(value)}", name, code=code)
        elif high is not None and value > high:
            self.fail(f"must be at most {high}, not {_kind(value)}", name, code=code)
        return value

    def duration(
        self,
        name: str,
        *,
        low: int,
        high: int | None = None,
        default: int | None = None,
        zero: int | None = None,
        code: str = CONFIG_INVALID,
    ) -> int:
        """The milliseconds of a duration string, with bounds in milliseconds; otherwise as ``whole``."""
        if not self.has(name):
            if default is None:
                self.fail("is missing", name, code=code)
            return default or 0
        text = self.text(name, code=code)
        if not text:
            return default or 0
        try:
            value = parse_duration(text)
        except InvalidDuration as error:
            self.fail(str(error), name, code=code)
            return default or 0
        if value == 0 and zero is not None:
            return zero
        if value < low:
            self.fail(f"must be at least {format_duration(low)}, not {text}", name, code=code)
        elif high is not None and value > high:
            self.fail(f"must be at most {format_duration(high)}, not {text}", name, code=code)
        return value

    def expression(
        self,
        name: str,
        *,
        variables: frozenset[str] = EVENT,
        restrictive: bool = False,
        code: str = CONFIG_INVALID,
    ) -> str:
        """The text of an expression that compiles over ``variables``."""
        source = self.text(name, code=code)
        if source:
            try:
                compile_expression(source, variables=variables, restrictive=restrictive)
            except ExpressionError as error:
                self.fail(f"invalid expression: {error}", name, code=code)
        return source

    def object(self, name: str, *, required: bool = False) -> Fields | None:
        value = self.get(name)
        if value is None:
            if required:
                self.fail("is missing", name)
            return None
        return self._child(value, name)

    def objects(
        self, name: str, *, most: int = 0, bare: str = "", code: str = CONFIG_INVALID
    ) -> list[Fields]:
        """The objects of a list of at most ``most``, if that is given.

        With ``bare`` a single element needs no list, and one that is no object is the value of the field
        ``bare``.
        """
        value = self.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            if not bare:
                self.fail(f"must be a list, not {_kind(value)}", name, code=code)
                return []
            child = self._child(value, name, bare)
            return [] if child is None else [child]
        if most and len(value) > most:
            self.fail(f"has {len(value)} entries, at most {most} are allowed", name, code=code)
        children = (self._child(item, f"{name}[{index}]", bare) for index, item in enumerate(value))
        return [child for child in children if child is not None]

    def _child(self, value: Any, name: str, bare: str = "") -> Fields | None:
        if bare and isinstance(value, int | float | str):
            value = {bare: value}
        if not isinstance(value, Mapping):
            self.fail(f"must be an object, not {_kind(value)}", name)
            return None
        path = ".".join(filter(None, (self.path, name)))
        return Fields(value, self.problems, where=self.where, path=path)


def _plain(name: str) -> str:
    return _known_plain(name) if len(name) <= 64 else name.replace("_", "").lower()


@lru_cache(maxsize=1024)
def _known_plain(name: str) -> str:
    return name.replace("_", "").lower()


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return f"the string {value[:40]!r}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        text = str(value)
        return text if len(text) <= 40 else f"{text[:40]}…"
    if isinstance(value, list):
        return "a list"
    return "null" if value is None else "an object"
