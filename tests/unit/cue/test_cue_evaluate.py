"""The public face of the evaluator: errors, positions, lookup, packages and the string hook."""

from __future__ import annotations

import pytest

from inngest.config.cue import CueError, Position, Reason, evaluate, parse

SCHEMA = """package schema
#Config: {
	log: level: *"info" | "debug"
	api: {port: int & >0 & <=65535 | *8288, host?: string}
	topic!: string
}
"""
PACKAGES = {"inngest.com/defs/config": SCHEMA}
AGAINST = ("inngest.com/defs/config", "#Config")


def refusal(source: str, **options: object) -> CueError:
    with pytest.raises(CueError) as caught:
        evaluate(source, **options).export()  # type: ignore[arg-type]
    return caught.value


def test_conflict_names_both_positions_and_the_path() -> None:
    error = refusal("a: b: 1\na: b: 2\n")
    assert error.path == ("a", "b")
    assert error.positions == (Position("config.cue", 1, 7), Position("config.cue", 2, 7))
    assert str(error) == "config.cue:1:7: a.b: conflicting values 2 and 1 (see config.cue:2:7)"


def test_bound_failure_names_value_and_constraint() -> None:
    error = refusal("port: >0 & <=65535\nport: 70000")
    assert error.reason is Reason.BOUND
    assert "70000" in error.message
    assert "<=65535" in error.message


def test_regular_expression_failure_names_value_and_constraint() -> None:
    assert 'invalid value "b" (out of bound =~"^a")' in str(refusal('x: =~"^a"\nx: "b"'))


def test_closed_struct_names_the_field_and_its_place() -> None:
    error = refusal("#A: {a?: int}\nx: #A & {b: 1}\n")
    assert error.message == "field not allowed: b"
    assert error.path == ("x", "b")
    assert error.positions[0] == Position("config.cue", 2, 10)


def test_required_field_is_named() -> None:
    error = refusal("{}", packages=PACKAGES, against=AGAINST)
    assert error.reason is Reason.REQUIRED
    assert error.path == ("topic",)


def test_all_problems_are_listed() -> None:
    error = refusal("a: 1 & 2\nb: int\n_c: 3 & 4\nd!: int\n")
    assert {p.path: p.reason for p in error.problems} == {
        ("a",): Reason.CONFLICT,
        ("b",): Reason.INCOMPLETE,
        ("_c",): Reason.CONFLICT,
        ("d",): Reason.REQUIRED,
    }
    assert len(str(error).splitlines()) == 4


def test_failed_disjunction_lists_why_each_alternative_fails() -> None:
    error = refusal('x: {k: "a"} | {k: "b"}\nx: k: "c"')
    assert error.path == ("x",)
    assert [cause.path for cause in error.causes] == [("x", "k"), ("x", "k")]
    assert '"a"' in str(error)
    assert '"b"' in str(error)


@pytest.mark.parametrize(
    ("source", "reason", "position"),
    [
        ("a: 1\nb: {\n", Reason.SYNTAX, (3, 1)),
        ("a: 1\nb: nope", Reason.REFERENCE, (2, 4)),
        ('import "net"\nx: net.IP', Reason.UNSUPPORTED, (1, 8)),
        ('import "strings"\nx: strings.MinRunes(3)', Reason.UNSUPPORTED, (2, 12)),
        (r'"\u0000#a": 1', Reason.UNSUPPORTED, (1, 1)),
        (r'("\u0000" + "a"): 1', Reason.UNSUPPORTED, (1, 1)),
        (r"#a: 1" + "\n" + r'x: {}."\u0000#a"', Reason.UNSUPPORTED, (2, 7)),
        (r'x: {}["\u0000#a"]', Reason.UNSUPPORTED, (1, 7)),
        ("x: 5 | !=[1]", Reason.UNSUPPORTED, (1, 8)),
        ('x: error("no")', Reason.UNSUPPORTED, (1, 4)),
        ('import "example.com/none"\nx: none.A', Reason.IMPORT, (1, 8)),
        ('x: =~"\\\\pL"', Reason.UNSUPPORTED, (1, 4)),
        ("x: 'abc", Reason.SYNTAX, (1, 4)),
    ],
)
def test_what_is_not_understood_is_refused_with_its_place(
    source: str, reason: Reason, position: tuple[int, int]
) -> None:
    error = refusal(source)
    assert error.reason is reason
    assert error.positions[0] == Position("config.cue", *position)


def test_unknown_import_is_named() -> None:
    assert '"example.com/none"' in str(refusal('import "example.com/none"\nx: none.A'))


def test_import_may_share_its_name_with_a_field() -> None:
    source = """package main
import config "inngest.com/defs/config"
config: config.#Config & {topic: "t", api: port: 80}
"""
    value = evaluate(source, packages=PACKAGES)
    assert value.lookup("config").export() == {
        "log": {"level": "info"},
        "api": {"port": 80},
        "topic": "t",
    }


def test_against_applies_a_definition_to_the_whole_text() -> None:
    value = evaluate('{"topic": "t", "log": {"level": "debug"}}', packages=PACKAGES, against=AGAINST)
    assert value.export() == {"topic": "t", "log": {"level": "debug"}, "api": {"port": 8288}}
    assert refusal('topic: "t", extra: 1', packages=PACKAGES, against=AGAINST).path == ("extra",)


def test_against_a_missing_definition_says_so() -> None:
    error = refusal("{}", packages=PACKAGES, against=("inngest.com/defs/config", "#Nope"))
    assert "#Nope" in error.message


def test_packages_may_import_packages() -> None:
    packages = {
        "a.com/a": 'package a\nimport "b.com/b"\n#A: b.#B & {v: 2}',
        "b.com/b": "package b\n#B: v: int",
    }
    assert evaluate('import "a.com/a"\nx: a.#A', packages=packages).export() == {"x": {"v": 2}}


def test_import_cycle_is_an_error() -> None:
    packages = {"a.com/a": 'package a\nimport "a.com/a"\nx: a.x'}
    assert refusal('import "a.com/a"\nx: a.x', packages=packages).reason is Reason.IMPORT


def test_lookup_position_and_has() -> None:
    value = evaluate('topic: "t"\napi: port: 80', packages=PACKAGES, against=AGAINST)
    assert value.lookup(("api", "port")).export() == 80
    assert value.position("api.port") == Position("config.cue", 2, 12)
    assert value.position("log.level").file == "inngest.com/defs/config"
    assert value.has("api.port")
    assert not value.has("api.host")
    with pytest.raises(CueError, match="undefined field: nope"):
        value.lookup("api.nope")


def test_lookup_in_lists_and_definitions() -> None:
    value = evaluate("a: [{b: 1}, {b: 2}]\n#D: c: 3")
    assert value.lookup("a.1.b").export() == 2
    assert value.lookup(("a", 0, "b")).export() == 1
    assert value.lookup("#D.c").export() == 3


def test_string_hook_sees_decoded_values_and_not_labels() -> None:
    seen: list[tuple[str, int, int]] = []

    def hook(text: str, position: Position) -> str:
        seen.append((text, position.line, position.column))
        return text.replace("${A}", "one")

    source = (
        'import "strings"\n"${A}": "x${A}\\n"\nb: "${A}\\("q${A}")"\n'
        "c: strings.ToUpper(\"${A}\")\nd: '${A}'\n"
    )
    exported = evaluate(source, transform_string=hook).export()
    assert exported == {"${A}": "xone\n", "b": "oneqone", "c": "ONE", "d": "JHtBfQ=="}
    assert ("x${A}\n", 2, 9) in seen
    assert not any(text == "strings" for text, _, _ in seen)


def test_string_hook_may_refuse() -> None:
    def hook(text: str, position: Position) -> str:
        raise CueError("not set", [position], reason=Reason.EVALUATION)

    assert refusal('a: "x"', transform_string=hook).positions == (Position("config.cue", 1, 4),)


def test_export_types() -> None:
    exported = evaluate("a: 1, b: 1.0, c: true, d: null, e: 'hi', f: 1Ki, g: 2.5e3").export()
    assert exported == {"a": 1, "b": 1.0, "c": True, "d": None, "e": "aGk=", "f": 1024, "g": 2500.0}
    assert isinstance(exported, dict)
    assert [type(exported[k]) for k in "abcf"] == [int, float, bool, int]


def test_deep_nesting_is_refused_not_crashed_on() -> None:
    assert refusal("a: " + "[" * 3000 + "]" * 3000).reason in {Reason.SYNTAX, Reason.STRUCTURAL_CYCLE}
    assert refusal("a: " + "{b: " * 400 + "1" + "}" * 400).reason in {Reason.SYNTAX, Reason.STRUCTURAL_CYCLE}


def test_parse_reports_the_package_and_imports() -> None:
    file = parse('package main\nimport c "x.com/y"\na: c.b', "f.cue")
    assert file.package == "main"
    assert [(i.path, i.name) for i in file.imports] == [("x.com/y", "c")]
