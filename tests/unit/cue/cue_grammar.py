"""A grammar of configurations, as Hypothesis strategies for source text.

The texts hold the constructs a configuration is made of, in sensible and in contradictory combinations,
over few enough labels and values that they meet.
"""

from __future__ import annotations

import json

from hypothesis import strategies as st

LABELS = ("a", "b", "c", "d")
DEFINITIONS = ("#A", "#B")
_SCALARS = ("0", "1", "2", "3", "1.5", "2.0", '"x"', '"y"', '""', "true", "false", "null")
_TYPES = ("int", "number", "string", "bool", "float", "_")
_BOUNDS = (">0", ">=1", "<3", "<=2", "!=1", '=~"^x"', '!~"y"', '!="x"')

scalars = st.sampled_from(_SCALARS)
types = st.sampled_from(_TYPES)
bounds = st.sampled_from(_BOUNDS)
labels = st.sampled_from(LABELS)


def _references() -> st.SearchStrategy[str]:
    """References to fields that exist: every struct made here declares all the labels of the file."""
    first = st.sampled_from(LABELS + DEFINITIONS)
    return st.one_of(first, st.tuples(first, labels).map(".".join))


def _binary(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = st.sampled_from(["+", "-", "*", "/", "==", "!=", "<", ">=", "&&", "||"])
    return st.tuples(inner, operators, inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})")


def _interpolations(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return inner.map(lambda text: f'"v\\({text})"')


def _disjunctions(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    disjunct = st.tuples(st.sampled_from(["", "", "*"]), inner).map("".join)
    return st.lists(disjunct, min_size=2, max_size=3).map(lambda parts: f"({' | '.join(parts)})")


def _conjunctions(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({' & '.join(parts)})")


def _lists(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    elements = st.lists(inner, max_size=3).map(", ".join)
    rest = st.sampled_from(["", "", "...", "...int"])
    return st.tuples(elements, rest).map(lambda t: f"[{', '.join(part for part in t if part)}]")


def _fields(value: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    mark = st.sampled_from(["", "", "", "?", "!"])
    plain = st.tuples(labels, mark, value).map(lambda t: f"{t[0]}{t[1]}: {t[2]}")
    pattern = value.map(lambda text: f"[string]: {text}")
    return st.one_of(plain, plain, plain, pattern)


def _structs(value: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    extra = st.sampled_from(["", "", "", "...", "#A", "#B"])
    fields = st.lists(_fields(value), max_size=3)
    return st.tuples(fields, extra).map(lambda t: "{" + ", ".join([*t[0], *filter(None, [t[1]])]) + "}")


def _closed(struct: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return struct.map(lambda text: f"close({text})")


def _values() -> st.SearchStrategy[str]:
    leaves = st.one_of(scalars, scalars, types, bounds, _references())

    def extend(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        structs = _structs(inner)
        return st.one_of(
            _disjunctions(inner), _conjunctions(inner), structs, structs, _closed(structs), _lists(inner),
            _binary(st.one_of(scalars, _references())), _interpolations(st.one_of(scalars, _references())),
        )  # fmt: skip

    return st.recursive(leaves, extend, max_leaves=6)


def _comprehensions(value: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    guard = st.tuples(_references(), scalars, labels, value).map(
        lambda t: f"if {t[0]} == {t[1]} {{{t[2]}: {t[3]}}}"
    )
    loop = st.tuples(labels, value).map(lambda t: f'{t[0]}: {{for k, v in {t[1]} {{"\\(k)": v}}}}')
    return st.one_of(guard, loop)


# Configurations that hold together: constraints that a given value meets.

_PLAIN_SCALARS = st.sampled_from([0, 1, 2, 3, 1.5, "x", "y", "xy", True, False, None])
_plain = st.recursive(
    _PLAIN_SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(labels, inner, min_size=1, max_size=3)
    ),
    max_leaves=5,
)
_ADMITTING: dict[type, tuple[str, ...]] = {
    bool: ("bool",),
    int: ("int", "number", ">=0", "<10", "!=7", "uint8"),
    float: ("float", "number", ">1", "<=1.5"),
    str: ("string", '=~"^[xy]+$"', '!="q"', '>"a"'),
    type(None): ("null", "_"),
}


def literal(value: object) -> str:
    """``value`` as CUE source."""
    return json.dumps(value)


@st.composite
def admitting(draw: st.DrawFn, value: object, *, marks: bool = True) -> str:
    """An expression that ``value`` meets: itself, a type, a choice, a struct or list of such.

    Without ``marks`` no disjunction at its top marks a default. Only one that meets in a place has marks:
    what becomes of several, some of them ruled out, is not settled by the specification; the corpus holds the
    cases that matter.
    """
    form = draw(st.integers(0, 7))
    if form == 0:
        return literal(value)
    if form in {1, 2}:
        others = draw(st.lists(_plain, min_size=1, max_size=2))
        options = [draw(admitting(value, marks=False)), *map(literal, others)]
        marked = draw(st.integers(0, len(options))) if marks else len(options)
        order = draw(st.permutations(range(len(options))))
        return "(" + " | ".join(("*" if n == marked else "") + options[n] for n in order) + ")"
    if form == 3:
        return f"({draw(admitting(value, marks=marks))} & {draw(admitting(value, marks=False))})"
    if isinstance(value, dict):
        keys = draw(st.sets(st.sampled_from(sorted(value)), max_size=len(value)))
        presence = st.sampled_from(["", "", "?", "!"])
        fields = [f"{key}{draw(presence)}: {draw(admitting(value[key]))}" for key in sorted(keys)]
        fields += draw(st.sampled_from([[], [], ["..."], ["[string]: _"], [f"{draw(labels)}?: _"]]))
        text = "{" + ", ".join(fields) + "}"
        return f"close({text})" if keys == set(value) and draw(st.booleans()) else text
    if isinstance(value, list):
        if draw(st.booleans()):
            return "[" + ", ".join(draw(admitting(item)) for item in value) + "]"
        head = [draw(admitting(item)) for item in value[: draw(st.integers(0, len(value)))]]
        return f"[{', '.join([*head, '...'])}]"
    return draw(st.sampled_from(_ADMITTING[type(value)]))


@st.composite
def _coherent(draw: st.DrawFn) -> list[str]:
    """Declarations built around plain data, so that most of them have a value."""
    data = {label: draw(_plain) for label in LABELS}
    lines: list[str] = []
    for label, value in data.items():
        form = draw(st.integers(0, 9))
        if form < 5:
            lines.append(f"{label}: {literal(value)}")
        elif form == 5 and isinstance(value, dict):
            lines += [f"{label}: {key}: {literal(item)}" for key, item in value.items()]
        elif form == 6:
            lines.append(f"#{label}: {draw(admitting(value))}")
            lines.append(f"{label}: #{label} & {draw(admitting(value, marks=False))}")
        else:
            lines.append(f"{label}: *{literal(value)} | {draw(admitting(draw(_plain), marks=False))}")
        lines += [f"{label}: {text}" for text in draw(st.lists(admitting(value, marks=False), max_size=2))]
        if draw(st.integers(0, 3)) == 0:
            lines.append(f"r{label}: {label} & {draw(admitting(value, marks=False))}")
        if draw(st.integers(0, 5)) == 0:
            lines.append(f's{label}: "\\({label})-\\({draw(labels)})" | *{draw(labels)}')
        if draw(st.integers(0, 5)) == 0:
            lines.append(f"if {label} == {literal(value)} {{t{label}: {draw(labels)}}}")
        if isinstance(value, dict | list) and draw(st.booleans()):
            lines.append(f'u{label}: {{for k, v in {label} {{"\\(k)": v}}}}')
    return lines


@st.composite
def _wild(draw: st.DrawFn) -> list[str]:
    """Declarations made of anything: mostly contradictory."""
    values = _values()
    lines = [f"{label}: {draw(values)}" for label in LABELS]
    lines += [f"{label}: {draw(values)}" for label in draw(st.lists(labels, max_size=2))]
    lines += [f"{name}: {draw(_structs(values))}" for name in DEFINITIONS]
    if draw(st.booleans()):
        lines.append(draw(_comprehensions(values)))
    return lines


@st.composite
def configurations(draw: st.DrawFn) -> str:
    """A file of declarations in any order."""
    lines = draw(st.one_of(_coherent(), _coherent(), _coherent(), _wild()))
    return "\n".join(draw(st.permutations(lines))) + "\n"
