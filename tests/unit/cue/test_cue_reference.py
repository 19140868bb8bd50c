"""Generated configurations: both evaluators have to agree on every value and on every refusal."""

from __future__ import annotations

import json
from pathlib import Path

import cue_reference as reference
import pytest
from cue_grammar import configurations
from hypothesis import HealthCheck, given, settings

from inngest.config.cue import CueError, evaluate

BINARY = reference.find()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BINARY is None, reason="no cue binary: scripts/test builds it where go is installed"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prepared = tmp_path_factory.mktemp("cue")
    reference.prepare(prepared)
    return prepared


def outcome(source: str) -> tuple[object, CueError | None]:
    try:
        return evaluate(source, packages=reference.PACKAGES).export(), None
    except CueError as error:
        return None, error


@given(source=configurations())
@settings(max_examples=600, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_generated_configuration_means_the_same(folder: Path, source: str) -> None:
    assert BINARY is not None
    expected = reference.run(BINARY, source, folder)
    exported, error = outcome(source)
    if expected.refused:
        assert error is not None, f"the reference refuses, this exports {exported}"
    else:
        assert error is None, f"the reference exports {expected.export}"
        assert json.loads(json.dumps(exported)) == expected.export
