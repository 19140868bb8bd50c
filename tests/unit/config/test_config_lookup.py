"""Where a configuration is looked for, and which one counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from inngest.config.errors import ConfigError
from inngest.config.load import Loaded, load
from inngest.config.lookup import STEMS, candidates


@pytest.fixture
def stems(tmp_path: Path) -> tuple[Path, ...]:
    """The usual places, in a directory of the test."""
    (tmp_path / "etc" / "inngest").mkdir(parents=True)
    return tuple(tmp_path / str(stem).lstrip("/") for stem in STEMS)


def text(level: str) -> str:
    return f'{{"log": {{"level": "{level}"}}}}'


def find(stems: tuple[Path, ...], path: Path | None = None, **environment: str) -> Loaded:
    return load(path, environment, stems)


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    return str(caught.value)


def test_the_order_is_as_documented() -> None:
    assert [str(stem) for stem in STEMS] == ["inngest", "/etc/inngest/config", "/etc/inngest"]


def test_without_any_the_defaults_hold(stems: tuple[Path, ...]) -> None:
    loaded = find(stems)
    assert loaded.source.name == "the defaults"
    assert loaded.config.log.level == "info"


def test_each_place_counts_before_those_after_it(stems: tuple[Path, ...]) -> None:
    places = [Path(f"{stem}{suffix}") for stem in stems for suffix in (".cue", ".json")]
    for place in reversed(places):
        place.write_text(text("debug"))
        assert find(stems).source.name == str(place)


def test_the_environment_counts_before_files(stems: tuple[Path, ...]) -> None:
    Path(f"{stems[0]}.cue").write_text(text("debug"))
    loaded = find(stems, INNGEST_CONFIG='log: level: "error"')
    assert loaded.source.name == "INNGEST_CONFIG"
    assert loaded.config.log.level == "error"


def test_an_empty_variable_does_not_count(stems: tuple[Path, ...]) -> None:
    Path(f"{stems[0]}.cue").write_text(text("debug"))
    assert find(stems, INNGEST_CONFIG="").config.log.level == "debug"


def test_the_named_file_counts_before_all(stems: tuple[Path, ...], tmp_path: Path) -> None:
    (tmp_path / "mine.cue").write_text(text("warn"))
    Path(f"{stems[0]}.cue").write_text(text("debug"))
    loaded = find(stems, tmp_path / "mine.cue", INNGEST_CONFIG=text("error"))
    assert loaded.config.log.level == "warn"


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("config.cue", "config.cue"),
        ("config.json", "config.json"),
        ("config.cue", "config"),
        ("config.json", "config"),
        ("settings", "settings"),
        ("server.conf", "server.conf"),
        ("server.v2.cue", "server.v2"),
    ],
)
def test_a_file_is_named_as_it_is_or_by_its_stem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / file).write_text(text("warn"))
    loaded = load(Path(named), {})  # without a slash too
    assert loaded.source.name == file
    assert load(tmp_path / named, {}).config.log.level == "warn"


def test_a_stem_prefers_cue_to_json(tmp_path: Path) -> None:
    (tmp_path / "config.cue").write_text(text("warn"))
    (tmp_path / "config.json").write_text(text("error"))
    (tmp_path / "other").mkdir()
    assert load(tmp_path / "config", {}).config.log.level == "warn"


def test_a_directory_of_the_stem_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config.cue").write_text(text("warn"))
    assert load(tmp_path / "config", {}).config.log.level == "warn"


def test_a_named_file_that_is_missing_is_an_error_with_all_that_was_tried(tmp_path: Path) -> None:
    stem = tmp_path / "none"
    assert refusal(stem) == f"there is no configuration file {stem} (tried: {stem}, {stem}.cue, {stem}.json)"
    assert refusal(tmp_path / "none.cue").endswith(f"(tried: {stem}.cue)")


def test_a_place_that_cannot_be_looked_at_is_an_error(stems: tuple[Path, ...]) -> None:
    unseen = stems[0].with_name("x" * 300)  # as in a directory that is closed to us
    with pytest.raises(ConfigError, match=r"the configuration file .*x cannot be read: File name too long"):
        load(unseen)
    with pytest.raises(ConfigError, match="cannot be read"):
        load(None, {}, (unseen, *stems))


def test_a_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.cue").write_bytes(b"log: level: \xff")
    assert refusal(tmp_path / "config.cue").endswith(
        "config.cue cannot be read: it is not UTF-8 (at byte 12)"
    )


def test_files_that_are_not_needed_are_not_read(stems: tuple[Path, ...]) -> None:
    Path(f"{stems[0]}.cue").write_text(text("debug"))
    Path(f"{stems[1]}.cue").write_bytes(b"\xff")
    assert next(candidates({}, stems)).name == f"{stems[0]}.cue"


FUNCTIONS = [
    'package main\nimport "inngest.com/defs/v1"\nfunction: v1.#Function & {id: "greet", name: "Greet"}',
    '{"id": "greet", "name": "Greet", "triggers": [{"event": "a/b"}], "steps": {}}',
    '{"name": "greet", "triggers": [{"cron": "* * * * *"}]}',
    'function: {id: "greet", triggers: [{event: "a/b"}]}',
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_that_was_found_is_passed_by_and_reported(stems: tuple[Path, ...], function: str) -> None:
    Path(f"{stems[0]}.cue").write_text(function)
    Path(f"{stems[1]}.cue").write_text(text("debug"))
    loaded = find(stems)
    assert loaded.config.log.level == "debug"
    assert loaded.notes == (
        f"{stems[0]}.cue is the definition of the function 'greet', not a configuration: passed by",
    )


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_that_was_named_is_refused(tmp_path: Path, function: str) -> None:
    path = tmp_path / "inngest.cue"
    path.write_text(function)
    expected = "this is the definition of the function 'greet', not a configuration: name one with -c"
    assert refusal(path) == f"{path}:1:1: {expected}"
