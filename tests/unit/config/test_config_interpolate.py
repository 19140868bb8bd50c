"""Variables and files in a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inngest.config.errors import ConfigError
from inngest.config.load import read
from inngest.config.lookup import Source

ENVIRONMENT = {
    "HOST": "10.0.0.1",
    "PORT": "9000",
    "EMPTY": "",
    "ON": "true",
    "WORD": "debug",
    "EXPONENT": "1e3",
    "OCTAL": "0700",
    "_x1": "low",
}


def addr(written: str, environment: dict[str, str] | None = None) -> str:
    """What ``eventAPI.addr`` is when ``written`` stands between its quotes."""
    source = Source("c.cue", f'eventAPI: addr: "{written}"')
    return read(source, ENVIRONMENT if environment is None else environment).config.event_api.addr


def refusal(source: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(Source("c.cue", source), ENVIRONMENT)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("${HOST}", "10.0.0.1"),
        ("$HOST", "10.0.0.1"),
        ("http://$HOST:${PORT}/x", "http://10.0.0.1:9000/x"),
        ("$HOST.example", "10.0.0.1.example"),
        ("${_x1}$_x1", "lowlow"),
        ("${NONE:-fallback}", "fallback"),
        ("${EMPTY:-fallback}", "fallback"),
        ("${HOST:-fallback}", "10.0.0.1"),
        ("a${NONE:-}b", "ab"),
        ("${NONE:-a:-b $HOST}", "a:-b $HOST"),
        ("a${EMPTY}b", "ab"),
        ("pa$$word", "pa$word"),
        ("$$HOST", "$HOST"),
        ("$$${HOST}", "$10.0.0.1"),
        ("cost $5, 100%$", "cost $5, 100%$"),
        ("^a$|$ b", "^a$|$ b"),
    ],
)
def test_within_quotes(written: str, meant: str) -> None:
    assert addr(written) == meant


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_no_value_can_change_what_else_is_configured(value: str) -> None:
    assert addr("${V}", {"V": value}) == value


def test_values_are_not_looked_at_again() -> None:
    assert addr("${V}", {"V": "${HOST}$$\\(x)", "HOST": "wrong"}) == "${HOST}$$\\(x)"


def test_in_every_form_of_string() -> None:
    source = '''eventAPI: addr: #"${HOST}"#
coreAPI: addr: """
	$HOST
	"""
let host = "$HOST"
runner: addr: "\\(host):${PORT}"
'''
    config = read(Source("c.cue", source), ENVIRONMENT).config
    assert (config.event_api.addr, config.core_api.addr) == ("10.0.0.1", "10.0.0.1")
    assert config.runner.addr == "10.0.0.1:9000"


def test_labels_and_comments_are_left_alone() -> None:
    source = '// ${NONE}\nexecution: drivers: "$NONE": {name: "mock"} // $NONE'
    assert "$NONE" in read(Source("c.cue", source), ENVIRONMENT).config.execution.drivers


def test_in_json() -> None:
    source = '{"eventAPI": {"addr": "${HOST}", "port": ${PORT}}}'
    config = read(Source("c.json", source), ENVIRONMENT).config
    assert (config.event_api.addr, config.event_api.port) == ("10.0.0.1", 9000)


# Files


@pytest.mark.parametrize(
    ("content", "meant"),
    [
        ("secret", "secret"),
        ("secret\n", "secret"),
        ("secret\r\n", "secret"),
        ("two\nlines\n\n", "two\nlines\n"),
    ],
)
def test_a_file_without_its_last_newline(tmp_path: Path, content: str, meant: str) -> None:
    (tmp_path / "key").write_bytes(content.encode())
    assert addr(f"${{file:{tmp_path / 'key'}}}") == meant


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none"
    assert refusal(f'log: level: "${{file:{path}}}"') == [
        f"c.cue:1:13: the file {path} cannot be read: No such file or directory"
    ]
    (tmp_path / "binary").write_bytes(b"\xff")
    assert refusal(f'log: level: "${{file:{tmp_path / "binary"}}}"')[0].endswith("binary is not UTF-8")


# What cannot be put in


def test_every_unset_variable_is_named_with_its_place() -> None:
    assert refusal('log: level: "$NONE"\nlog: format: "x-${NIL}"\n') == [
        "c.cue:1:13: the environment variable NONE is not set: set it, or write ${NONE:-default}",
        "c.cue:2:14: the environment variable NIL is not set: set it, or write ${NIL:-default}",
    ]


@pytest.mark.parametrize("written", ["${}", "${1A}", "${A B}", "${A-b}", "${HOST"])
def test_what_is_not_a_reference_is_named(written: str) -> None:
    (problem,) = refusal(f'log: level: "{written}"')
    assert problem.startswith(f"c.cue:1:13: {written} is not a reference: write ${{NAME}}")


# Outside of quotes


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("${PORT}", 9000),
        ("$PORT", 9000),
        ("${NONE:-7000}", 7000),
        ('${PORT}, addr: "x"', 9000),
        ("$PORT & int", 9000),
        ("($PORT)", 9000),
        ("${PORT} // the port", 9000),
    ],
)
def test_a_number_outside_of_quotes(written: str, meant: int) -> None:
    source = f"eventAPI: {{\n\tport: {written}\n}}"
    assert read(Source("c.cue", source), ENVIRONMENT).config.event_api.port == meant


def test_a_boolean_and_a_file_outside_of_quotes(tmp_path: Path) -> None:
    (tmp_path / "port").write_text("9001\n")
    source = f"execution: logOutput: $ON\neventAPI: port: ${{file:{tmp_path / 'port'}}}\n"
    config = read(Source("c.cue", source), ENVIRONMENT).config
    assert config.execution.log_output is True
    assert config.event_api.port == 9001


@pytest.mark.parametrize("name", ["WORD", "HOST", "EMPTY", "OCTAL"])
def test_only_a_number_or_boolean_stands_outside_of_quotes(name: str) -> None:
    (problem,) = refusal(f"log: level: ${{{name}}}")
    why = f"stands outside of quotes and the value of {name} is not a number, true or false"
    assert problem == f'c.cue:1:13: ${{{name}}} {why}: write "${{{name}}}"'


def test_nothing_can_be_injected_outside_of_quotes() -> None:
    with pytest.raises(ConfigError, match="stands outside of quotes"):
        read(Source("c.cue", "eventAPI: port: $V"), {"V": '1\nkeys: event: ["mine"]'})


@pytest.mark.parametrize("written", ["${HOST}:6379", "$PORT + 1", "1$PORT", "x.$PORT"])
def test_a_part_of_a_value_is_refused_outside_of_quotes(written: str) -> None:
    (problem,) = refusal(f"eventAPI: port: {written}")
    assert "is only a part of a value: write the whole of it in quotes" in problem


def test_a_name_with_a_dollar_that_the_text_declares_is_not_a_variable() -> None:
    source = "let $PORT = 7000\neventAPI: port: $PORT"
    assert read(Source("c.cue", source), ENVIRONMENT).config.event_api.port == 7000


def test_places_stay_right_beside_what_was_put_in() -> None:
    assert refusal("eventAPI: {port: ${PORT}, addr: 5}\nlog: levl: 1") == [
        "c.cue:1:33: eventAPI.addr: 5 is not allowed; it is to be a text that is not empty",
        "c.cue:2:6: log.levl: unknown key; did you mean level?",
    ]
