"""The keys of the configuration in words: for one key, and for the page of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from inngest.config.catalogue import Catalogue, Items, Key, Node, Section, Variants, children, nearest
from inngest.config.rules import Rule
from inngest.core.errors import InngestError


class UnknownKey(InngestError):
    """There is no such key."""


def explanation(catalogue: Catalogue, path: str) -> str:
    """What a key means, its type, its default and what is allowed; the empty path lists the top.

    Raises UnknownKey, which names the nearest key there is.
    """
    names = path.split(".") if path else []
    try:
        key = catalogue.find(names)
    except KeyError as error:
        name, known = error.args
        raise UnknownKey(f"{path}: there is no key {name}; {nearest(name, known)}") from None
    lines = [f"{path}\n"] if path else []
    if key.doc:
        lines.append(f"  {key.doc}\n")
    if names and isinstance(above := catalogue.find(names[:-1]).node, Variants):
        having = [name for name, section in above.sections.items() if names[-1] in section.keys]
        if len(having) < len(above.sections) or names[-1] == above.tag:
            lines.append(f"  {'of ' + above.tag + ':':12}{_listed(having)}\n")
    lines += [f"  {name + ':':12}{text}\n" for name, text in _facts(key)]
    if below := list(_below(key.node)):
        lines += ["\n", *below]
    return "".join(lines)


def tables(catalogue: Catalogue) -> str:
    """Markdown tables of all keys: one of those outside of variants, then one for each variant."""
    lines = ["| Key | Meaning | Default | Allowed |", "|---|---|---|---|"]
    variants: list[tuple[str, Variants]] = []
    for path, key in catalogue.walk():
        name = ".".join(path)
        if isinstance(key.node, Variants):
            variants.append((name, key.node))
        lines.append(_row(name, key))
    for name, node in variants:
        for chosen, section in node.sections.items():
            lines += ["", f'### `{name}` with {node.tag} "{chosen}"', "", section.doc]
            if rows := list(_rows(section, node.tag)):
                lines += ["", "| Key | Meaning | Default | Allowed |", "|---|---|---|---|", *rows]
    return "\n".join(lines) + "\n"


def _rows(section: Section, tag: str, prefix: str = "") -> Iterator[str]:
    for name, key in section.keys.items():
        if name == tag and not prefix:
            continue
        yield _row(prefix + name, key)
        if isinstance(key.node, Section):
            yield from _rows(key.node, tag, f"{prefix}{name}.")


def _row(name: str, key: Key) -> str:
    facts = dict(_facts(key))
    default = f"`{facts['default']}`" if "default" in facts else "required" if key.required else ""
    return f"| `{name}` | {_cell(key.doc)} | {default} | {_cell(facts.get('allowed', ''))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _facts(key: Key) -> Iterator[tuple[str, str]]:
    """Name and text of what there is to say about what a key holds."""
    match key.node:
        case Rule():
            yield "type", key.node.type
            yield "allowed", key.node.allowed
            if key.node.default is not None:
                yield "default", key.node.default
        case Items():
            yield "type", "list"
            yield "allowed", f"a list of: {key.node.item.allowed}"
            if not key.node.least:
                yield "default", "[]"
        case Variants():
            yield "type", f"struct, one for each {key.node.tag}"
            yield "allowed", f"{key.node.tag} {_listed(key.node.sections)}"
            if key.node.default is not None:
                yield "default", f'{{{key.node.tag}: "{key.node.default}"}}'
        case Section():
            yield "type", "struct"
    if key.required:
        yield "required", "yes"


def _below(node: Node) -> Iterator[str]:
    """The lines that list what is below a key."""
    if isinstance(node, Variants):
        for name, section in node.sections.items():
            yield f'  {node.tag} "{name}": {section.doc}\n'
            yield f"      {', '.join(section.keys)}\n"
        return
    for name, key in children(node):
        yield f"  {name:16}{key.doc}\n"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
