"""The shipped schema means the same to the reference implementation as to the evaluator."""

from __future__ import annotations

import json
from pathlib import Path

import cue_reference as reference
import pytest

from inngest.config.catalogue import IMPORT_PATH, schema_source
from inngest.config.cue import CueError, evaluate

BINARY = reference.find()

pytestmark = pytest.mark.skipif(
    BINARY is None, reason="no cue binary: scripts/test builds it where go is installed"
)

HEAD = f'import "{IMPORT_PATH}"\nconfig.#Config & '
CONFIGURATIONS = [
    "{}",
    'log: level: "debug"',
    'log: level: "loud"',
    "log: levl: 1",
    "eventAPI: {port: 80, maxSize: 64Ki}",
    "eventAPI: port: 0",
    "eventAPI: port: 8288.5",
    "eventAPI: port: >70000",
    "limits: maxRequestSize: 2048",
    'eventstream: service: {backend: "nats", serverURL: "nats://h"}',
    'eventstream: service: backend: "nats"',
    'eventstream: service: {backend: "redis", sentinel: {master: "m", nodes: ["h:1", "i:2"]}}',
    'eventstream: service: {backend: "redis", sentinel: {master: "m", nodes: []}}',
    'eventstream: service: topic: "t"',
    'eventstream: service: username: "u"',
    'queue: service: config.#SQSQueue & {queueURL: "q", region: "r"}',
    'state: service: host: "h"',
    "state: service: config.#RedisState & {tls: {}, db: 2}",
    'state: service: {backend: "redis", tls: crt: 1}',
    'datastore: service: {backend: "postgres", URI: "mysql://h"}',
    "execution: drivers: http: config.#HTTPDriver",
    'execution: drivers: {http: timeout: 5, other: name: "mock"}',
    'execution: drivers: docker: name: "http"',
    "execution: drivers: {}",
    'retention: history: "30d", apps: {urls: ["http://a"], pollInterval: "1.5h"}',
    'retention: history: "30 d"',
    'keys: {signing: ["a", "b"], event: [""]}',
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prepared = tmp_path_factory.mktemp("schema")
    reference.prepare(prepared)
    target = prepared / "cue.mod" / "pkg" / IMPORT_PATH
    target.mkdir(parents=True)
    (target / "config.cue").write_text(schema_source())
    return prepared


def outcome(source: str) -> tuple[object, CueError | None]:
    try:
        return evaluate(source, packages={IMPORT_PATH: schema_source()}).export(), None
    except CueError as error:
        return None, error


@pytest.mark.parametrize("written", CONFIGURATIONS)
def test_a_configuration_means_the_same(folder: Path, written: str) -> None:
    assert BINARY is not None
    source = HEAD + (written if written.startswith("{") else f"{{{written}}}")
    expected = reference.run(BINARY, source, folder)
    exported, error = outcome(source)
    if expected.refused:
        assert error is not None, f"the reference refuses, this exports {exported}"
    else:
        assert error is None, f"the reference exports {expected.export}"
        assert json.loads(json.dumps(exported)) == expected.export
