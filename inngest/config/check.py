"""Holding what an author gave against the keys of the schema, in words for the author.

The schema decides, by evaluation. This looks first at what was given, so that what is wrong is named by key
and place, all of it at once, rather than as a contradiction inside the schema.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from inngest.config.catalogue import Items, Node, Section, Variants, children, nearest
from inngest.config.cue import CueError, Plain, Position, Value, dumps
from inngest.config.errors import Problem
from inngest.config.mask import is_secret, masked_url
from inngest.config.rules import Rule

Path = tuple[str, ...]


class Check:
    """The problems of one configuration. ``given`` is its value when evaluated without the schema."""

    def __init__(self, given: Value) -> None:
        self._given = given

    def problems(self, plain: Plain, node: Node, path: Path = ()) -> Iterator[Problem]:
        match node:
            case Section():
                yield from self._section(plain, node, path)
            case Variants():
                yield from self._variants(plain, node, path)
            case Items():
                yield from self._items(plain, node, path)
            case Rule():
                if not isinstance(plain, dict | list) and node.admits(plain):
                    return
                yield self._problem(
                    f"{_shown(plain, path)} is not allowed; it is to be {node.allowed}{_hint(plain, node)}",
                    path,
                )

    def _section(self, plain: Plain, section: Section, path: Path, of: str = "") -> Iterator[Problem]:
        if not isinstance(plain, dict):
            yield self._problem(
                f"{_shown(plain, path)} is not allowed; it is to be a struct of keys: {_keys(section)}", path
            )
            return
        for name, value in plain.items():
            key = section.keys.get(name)
            if key is not None:
                yield from self.problems(value, key.node, (*path, name))
            elif section.rest is not None:
                yield from self.problems(value, section.rest, (*path, name))
            else:
                yield self._unknown(f"unknown key{of}; {nearest(name, section.keys)}", (*path, name))
        for name, key in section.keys.items():
            if key.required and name not in plain:
                yield self._problem(f"required{of}, and not given", (*path, name), at=path)

    def _variants(self, plain: Plain, variants: Variants, path: Path) -> Iterator[Problem]:
        tag, sections = variants.tag, variants.sections
        if not isinstance(plain, dict):
            example = f'{{{tag}: "{next(iter(sections))}"}}'
            yield self._problem(
                f"{_shown(plain, path)} is not allowed; it is to be a struct such as {example}", path
            )
            return
        chosen = plain.get(tag)
        if chosen is None:
            yield from self._untagged(plain, variants, path)
        elif isinstance(chosen, str) and chosen in sections:
            yield from self._section(plain, sections[chosen], path, of=f' for {tag} "{chosen}"')
        else:
            near = nearest(chosen, sections) if isinstance(chosen, str) else ""
            guess = f"; {near}" if near.startswith("did") else ""
            message = f"{_shown(chosen, path)} is not allowed; it is to be one of {_quoted(sections)}{guess}"
            yield self._problem(message, (*path, tag))

    def _untagged(self, plain: dict[str, Plain], variants: Variants, path: Path) -> Iterator[Problem]:
        """Without a tag the keys tell which is meant: the default, or the only one that knows them."""
        knowing = [name for name, section in variants.sections.items() if plain.keys() <= section.keys.keys()]
        known = dict(children(variants))
        if variants.default in knowing:
            yield from self._section(plain, variants.sections[variants.default], path)
        elif len(knowing) == 1:
            yield from self._section(plain, variants.sections[knowing[0]], path)
        elif unknown := [name for name in plain if name not in known]:
            for name in unknown:
                yield self._unknown(f"unknown key; {nearest(name, known)}", (*path, name))
        else:
            names = _quoted(knowing or variants.sections)
            yield self._problem(f"{variants.tag} is needed to tell what is meant: one of {names}", path)

    def _items(self, plain: Plain, items: Items, path: Path) -> Iterator[Problem]:
        if not isinstance(plain, list):
            message = f"{_shown(plain, path)} is not allowed; it is to be a list, in brackets"
            yield self._problem(message, path)
            return
        if len(plain) < items.least:
            yield self._problem("the list is empty; it needs an item", path)
        for number, item in enumerate(plain):
            yield from self.problems(item, items.item, (*path, str(number)))

    def _problem(self, message: str, path: Path, *, at: Path | None = None) -> Problem:
        return Problem(message, self._position(path if at is None else at), ".".join(path))

    def _unknown(self, message: str, path: Path) -> Problem:
        return Problem(message, self._given.label_position(path), ".".join(path))

    def _position(self, path: Path) -> Position | None:
        try:
            return self._given.position(path)
        except CueError:
            return None


def _shown(plain: Plain, path: Path) -> str:
    """What was given, as it is to be shown."""
    match plain:
        case dict():
            return "a struct"
        case list():
            return "a list"
        case str() if is_secret(path):
            return "the text given"
        case str():
            return masked_url(dumps(plain).strip())
        case _:
            return dumps(plain).strip()


def _hint(plain: Plain, node: Rule) -> str:
    """What to do about a number that came as text, as one from a variable within quotes does."""
    if node.type in {"int", "bool"} and isinstance(plain, str):
        return ", without quotes: the value of a variable too, as in ${VAR}"
    return ""


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _keys(section: Section) -> str:
    return ", ".join(section.keys)
