"""The keys of the configuration with their documentation, read from the schema.

The schema alone says what is valid. This is its shape in a form that messages, ``explain`` and the
documentation can be made of.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from inngest.config.cue import ast, dumps, parse
from inngest.config.rules import Rule, rule

IMPORT_PATH = "inngest.com/defs/config"
DEFINITION = "#Config"
FIELD_DEFINITION = "#File"

_TAGS = ("backend", "name")
"""The keys that tell the variants of a section apart."""


@dataclass(frozen=True)
class Section:
    """Keys below a key. ``rest`` is what any other key holds, where that is open."""

    keys: dict[str, Key] = field(default_factory=dict)
    rest: Node | None = None
    doc: str = ""

    def tag(self) -> tuple[str, str] | None:
        """The key that tells this section from its alternatives, and the value that it has here."""
        for name in _TAGS:
            node = self.keys[name].node if name in self.keys else None
            if isinstance(node, Rule) and isinstance(literal := node.alternatives[0].literal, str):
                return name, literal
        return None


@dataclass(frozen=True)
class Variants:
    """One of several sections, told apart by the value of ``tag``."""

    tag: str
    sections: dict[str, Section]
    default: str | None


@dataclass(frozen=True)
class Items:
    """A list; ``least`` is the fewest items that it may have."""

    item: Rule
    least: int


Node = Section | Variants | Items | Rule


@dataclass(frozen=True)
class Key:
    """A key: what it means, what it holds, and whether it has to be given."""

    name: str
    doc: str
    node: Node
    required: bool = False


class Catalogue:
    """The keys of one schema."""

    def __init__(self, source: str) -> None:
        self._lines = source.splitlines()
        body = parse(source, IMPORT_PATH).body
        self._structs: dict[str, ast.StructLit] = {}
        self._scalars: dict[str, tuple[ast.Expr, str]] = {}
        self._docs: dict[str, str] = {}
        for item in body.fields:
            name = item.name or item.key
            self._docs[name] = self._comment(item)
            if isinstance(item.value, ast.StructLit):
                self._structs[name] = item.value
            else:
                self._scalars[name] = (item.value, self._docs[name])
        self.root = self._section(self._structs[DEFINITION], "")

    def find(self, path: Iterable[str]) -> Key:
        """The key at a path. Below a key with variants, the first one that has the next name counts.

        Raises KeyError with the part of the path that is unknown and the names that are known there.
        """
        key = Key("", "", self.root)
        for name in path:
            known = dict(children(key.node))
            if name not in known:
                raise KeyError(name, tuple(known))
            key = known[name]
        return key

    def walk(self) -> Iterator[tuple[tuple[str, ...], Key]]:
        """All keys, each once, in the order of the schema. Variants are not entered."""
        yield from _walk((), self.root)

    def loose(self) -> str:
        """A package whose definitions allow anything: against it, a text means what it says itself."""
        lines = ["package config"]
        for name, struct in self._structs.items():
            tag = self._section(struct, "").tag()
            inside = f"{tag[0]}: {dumps(tag[1]).strip()}, ..." if tag else "..."
            lines.append(f"{name}: {{{inside}}}")
        lines += [f"{name}: _" for name in self._scalars]
        return "\n".join(lines) + "\n"

    def _comment(self, item: ast.Field) -> str:
        """The comment right above a field."""
        lines: list[str] = []
        number = item.pos.line - 2
        while number >= 0 and self._lines[number].lstrip().startswith("//"):
            lines.append(self._lines[number].lstrip().removeprefix("//").strip())
            number -= 1
        return " ".join(reversed(lines))

    def _section(self, struct: ast.StructLit, doc: str) -> Section:
        section = Section(doc=doc)
        rest: Node | None = None
        for item in struct.declarations:
            match item:
                case ast.Field(name=str() as name):
                    node = self._node(item.value, self._comment(item))
                    doc = self._comment(item) or _doc_of(node)
                    section.keys[name] = Key(name, doc, node, item.presence is ast.Presence.REQUIRED)
                case ast.PatternField():
                    rest = self._node(item.value, "")
                case ast.Embedding(expr=ast.Ident(name=name)):
                    section.keys.update(self._section(self._structs[name], "").keys)
                case _:
                    pass
        return Section(section.keys, rest, section.doc)

    def _node(self, expr: ast.Expr, doc: str) -> Node:
        match expr:
            case ast.StructLit():
                return self._section(expr, doc)
            case ast.Ident(name=name) if name in self._structs:
                return self._section(self._structs[name], self._docs[name])
            case ast.ListLit(rest=ast.Expr() as rest):
                return Items(rule(rest, self._scalars), len(expr.elements))
            case ast.DisjunctionExpr():
                names = [d.expr.name for d in expr.disjuncts if isinstance(d.expr, ast.Ident)]
                if len(names) == len(expr.disjuncts) and all(name in self._structs for name in names):
                    default = next((d.default for d in expr.disjuncts if d.default), False)
                    return self._variants(names, default=default)
        return rule(expr, self._scalars)

    def _variants(self, names: list[str], *, default: bool) -> Variants:
        sections: dict[str, Section] = {}
        tag = ""
        for name in names:
            section = self._section(self._structs[name], self._docs[name])
            found = section.tag()
            assert found is not None
            tag = found[0]
            sections[found[1]] = section
        return Variants(tag, sections, next(iter(sections)) if default else None)


def children(node: Node) -> Iterator[tuple[str, Key]]:
    """The keys right below a node; those of all variants, the first of a name."""
    match node:
        case Section():
            yield from node.keys.items()
            if node.rest is not None:
                yield from children(node.rest)
        case Variants():
            seen: dict[str, Key] = {}
            for section in node.sections.values():
                for name, key in section.keys.items():
                    seen.setdefault(name, key)
            yield from seen.items()
        case _:
            pass


def nearest(name: str, known: Iterable[str]) -> str:
    """Words that name the known key nearest to ``name``, or all of them where none is near."""
    by_lower = {item.lower(): item for item in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    if close:
        return f"did you mean {by_lower[close[0]]}?"
    return (
        f"known here: {', '.join(sorted(by_lower.values(), key=str.lower))}"
        if by_lower
        else "no key is known here"
    )


def _doc_of(node: Node) -> str:
    return node.doc if isinstance(node, Section) else ""


def _walk(path: tuple[str, ...], section: Section) -> Iterator[tuple[tuple[str, ...], Key]]:
    for name, key in section.keys.items():
        yield (*path, name), key
        if isinstance(key.node, Section):
            yield from _walk((*path, name), key.node)


def schema_source() -> str:
    """The text of the schema."""
    return files("inngest.config").joinpath("schema", "config.cue").read_text(encoding="utf-8")


@cache
def catalogue() -> Catalogue:
    return Catalogue(schema_source())


def packages(*, loose: bool = False) -> Mapping[str, str]:
    """What a configuration may import: the schema, or what allows anything in its place."""
    return {IMPORT_PATH: catalogue().loose() if loose else schema_source()}
