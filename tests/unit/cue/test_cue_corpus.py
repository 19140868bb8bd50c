"""The evaluator against the golden corpus made with the reference implementation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inngest.config.cue import CueError, evaluate
from inngest.config.cue.errors import format_path

CORPUS = Path(__file__).parent / "corpus"
PACKAGES = {"example.com/schema": (Path(__file__).parent / "cases" / "schema.cue").read_text()}


def load() -> list[object]:
    return [
        pytest.param(case, id=f"{file.stem}-{number}")
        for file in sorted(CORPUS.glob("*.json"))
        for number, case in enumerate(json.loads(file.read_text()))
    ]


#: Both evaluators may see one mistake in a text as different things, such as a stray word.
IN_THE_TEXT = {"syntax", "reference", "unused"}


def all_problems(error: CueError) -> list[CueError]:
    return [part for problem in error.problems for part in (problem, *problem.causes)]


def classes(error: CueError) -> set[str]:
    """The classes of a refusal as the corpus names them: ambiguity is a way of being incomplete."""
    found = {"incomplete" if p.reason == "ambiguous" else str(p.reason) for p in all_problems(error)}
    return found | IN_THE_TEXT if found & IN_THE_TEXT else found


def outcome(source: str) -> tuple[object, CueError | None]:
    try:
        return evaluate(source, packages=PACKAGES).export(), None
    except CueError as error:
        return None, error


@pytest.mark.parametrize("case", load())
def test_case_agrees_with_the_reference(case: dict[str, Any]) -> None:
    exported, error = outcome(case["source"])
    if error is None:
        assert not case.get("refused"), f"the reference refuses, this exports {exported}"
        assert json.loads(json.dumps(exported)) == case["export"]
        return
    assert case.get("refused"), f"the reference exports {case.get('export')}, this refuses: {error}"
    assert error.positions
    if classes(error) == {"unsupported"}:
        return
    assert classes(error) & set(case["classes"]), error
    paths = {format_path(p.path) for p in all_problems(error)}
    assert paths == {""} or not case.get("paths") or paths & set(case["paths"]), error


def test_corpus_is_large_enough_to_mean_something() -> None:
    cases = [case for file in CORPUS.glob("*.json") for case in json.loads(file.read_text())]
    assert len(cases) >= 300
    assert sum(bool(case.get("refused")) for case in cases) >= 100
