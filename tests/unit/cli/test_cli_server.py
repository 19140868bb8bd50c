"""What commands that ask a server have in common: addresses, keys, exit codes; and what they send."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner, Result

from inngest.cli.commands import cli
from inngest.cli.table import duration, plain

KEY = "signkey-prod-" + "00ff" * 16
OTHER = "signkey-prod-" + "ff00" * 16
RUN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


class Recorder:
    """Answers each request with what it was told, and knows what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.body: bytes = b'{"data": [], "page": {"cursor": null}}'
        self.headers: dict[str, str] = {}
        self.asked: list[tuple[str, str, str | None, bytes]] = []
        recorder = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                recorder.asked.append((self.command, self.path, self.headers.get("Authorization"), body))
                self.send_response(recorder.status)
                for name, value in recorder.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(recorder.body)))
                self.end_headers()
                self.wfile.write(recorder.body)

            do_GET = do_POST = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def answer(self, value: Any, status: int = 200) -> None:
        self.status, self.body = status, json.dumps(value).encode()

    def key(self) -> str | None:
        """With which the last request came."""
        return self.asked[-1][2]

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Recorder]:
    made = Recorder()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SIGNING_KEY", "EVENT_KEY", "BASE_URL", "API_BASE_URL", "EVENT_API_BASE_URL", "CONFIG"):
        monkeypatch.delenv(f"INNGEST_{name}", raising=False)


def inngest(*arguments: str, given: str | None = None, **variables: str) -> Result:
    return CliRunner().invoke(cli, arguments, input=given, env=variables)


# -- where to, and by which key --


def test_the_address_comes_from_option_or_variable(server: Recorder) -> None:
    assert inngest("runs", "list", "--url", server.url + "/").exit_code == 0
    assert inngest("runs", "list", INNGEST_BASE_URL=server.url).exit_code == 0
    elsewhere = {"INNGEST_BASE_URL": "http://127.0.0.1:1", "INNGEST_API_BASE_URL": server.url}
    assert inngest("runs", "list", **elsewhere).exit_code == 0
    assert [urlsplit(path).path for _, path, _, _ in server.asked] == ["/v1/runs"] * 3


def test_the_key_comes_from_option_file_variable_or_configuration(server: Recorder, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    config = tmp_path / "server.cue"
    config.write_text(f'keys: signing: ["{KEY}", "{OTHER}"]')
    for options, variables in (
        (["--signing-key", KEY], {}),
        (["--signing-key-file", str(file)], {"INNGEST_SIGNING_KEY": OTHER}),
        ([], {"INNGEST_SIGNING_KEY": f"{KEY} {OTHER}"}),
        (["--config", str(config)], {}),
        ([], {"INNGEST_CONFIG": config.read_text()}),
    ):
        result = inngest("runs", "list", "--url", server.url, *options, **variables)
        assert (result.exit_code, server.key()) == (0, f"Bearer {KEY}"), result.output
    assert inngest("runs", "list", "--url", server.url).exit_code == 0
    assert server.key() is None


def test_a_configuration_that_nobody_named_speaks_of_this_machine_only(
    server: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inngest.cue").write_text(f'keys: signing: ["{KEY}"]')
    assert inngest("runs", "list", "--url", server.url).exit_code == 0
    assert server.key() == f"Bearer {KEY}"
    monkeypatch.setattr("inngest.cli.server._is_here", lambda _: False)
    assert inngest("runs", "list", "--url", server.url).exit_code == 0
    assert server.key() is None


def test_a_key_is_not_carried_to_where_a_redirect_leads(server: Recorder) -> None:
    other = Recorder()
    try:
        server.answer({}, 302)
        server.headers["Location"] = f"{other.url}/v1/runs"
        result = inngest("runs", "list", "--url", server.url, "--signing-key", KEY)
        assert (result.exit_code, other.asked) == (1, [])
        assert f"{server.url} answers 302" in result.stderr
    finally:
        other.stop()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--signing-key", KEY, "--signing-key-file", "x"], "two keys"),
        (["--signing-key-file", "missing"], "missing: No such file"),
        (["--signing-key-file", "empty"], "empty: there is no key in it"),
        (["--url", "ftp://x"], "'ftp://x' is not an http or https URL"),
        (["--since", "yesterday"], "'yesterday' is neither a duration such as 2h nor a time"),
        (["--status", "Faild"], "Faild"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_wrong_use_is_told_and_ends_with_2(tmp_path: Path, options: list[str], message: str) -> None:
    (tmp_path / "empty").write_text("\n")
    result = inngest("runs", "list", *options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_bad_configuration_is_one_line(server: Recorder, tmp_path: Path) -> None:
    (tmp_path / "bad.cue").write_text("kees: {}")
    result = inngest("runs", "list", "--url", server.url, "-c", str(tmp_path / "bad.cue"))
    assert (result.exit_code, len(result.stderr.splitlines()), server.asked) == (1, 1, [])
    assert "unknown key" in result.stderr


# -- exit codes --

COMMANDS = [
    ["runs", "list"],
    ["runs", "show", RUN],
    ["runs", "cancel", RUN],
    ["runs", "rerun", RUN],
    ["events", "send", "a/b"],
    ["events", "list"],
    ["apps", "list"],
    ["apps", "sync", "http://127.0.0.1:1/api/inngest"],
    ["apps", "sync"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_refusal_ends_with_1_in_one_line(server: Recorder, command: list[str]) -> None:
    server.answer({"error": "Authentication failed", "status": 401, "data": None}, 401)
    result = inngest(*command, "--url", server.url)
    assert result.exit_code == 1
    (told,) = result.stderr.splitlines()
    assert told.endswith(f"{server.url} answers 401: Authentication failed")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_server_that_is_away_ends_with_3_in_one_line(server: Recorder, command: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    result = inngest(*command, "--url", url)
    assert (result.exit_code, len(result.stderr.splitlines())) == (3, 1)
    assert f"{url} does not answer: " in result.stderr
    server.answer({"error": "A backing system does not answer", "status": 503}, 503)
    result = inngest(*command, "--url", server.url)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == f"Error: {server.url} answers 503: A backing system does not answer\n"


@pytest.mark.parametrize("command", [each for each in COMMANDS if each[1] != "cancel"], ids=" ".join)
@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b""])
def test_what_is_no_server_of_this_kind_ends_with_3(
    server: Recorder, command: list[str], body: bytes
) -> None:
    server.body = body
    result = inngest(*command, "--url", server.url)
    assert result.exit_code == 3
    assert result.stderr == f"Error: {server.url} answers, but not as an Inngest server does\n"


def test_an_error_of_graphql_is_a_refusal(server: Recorder) -> None:
    server.answer({"data": None, "errors": [{"message": "Invalid query: line 2: unexpected end"}]})
    result = inngest("events", "list", "--query", "a", "--query", "b ==", "--url", server.url)
    assert result.exit_code == 1
    assert result.stderr == f"Error: {server.url} answers: Invalid query: line 2: unexpected end\n"
    asked = json.loads(server.asked[-1][3])
    assert asked["variables"]["filter"]["query"] == "a\nb =="


def test_what_a_server_says_moves_no_terminal(server: Recorder) -> None:
    server.answer({"error": "\x1b[2Jno\nway", "status": 400}, 400)
    result = inngest("runs", "list", "--url", server.url)
    assert result.stderr == f"Error: {server.url} answers 400: ·[2Jno·way\n"
    server.answer({"data": [{"a": "\x9b\ud800"}], "page": {"cursor": None}})
    result = inngest("runs", "list", "--json", "--url", server.url)
    assert "".join(result.stdout.split()) == '[{"a":"\\u009b\\ud800"}]'
    server.answer({"data": None, "errors": [{}]})
    assert inngest("apps", "list", "--url", server.url).exit_code == 1


# -- what is asked --


def test_filters_of_runs_are_parameters(server: Recorder) -> None:
    options = ["--status", "failed", "--app", "shop", "--function", "order", "--query", "output.a == 1"]
    times = ["--since", "2026-11-27T20:00:00Z", "--until", "2026-11-28"]
    assert inngest("runs", "list", *options, *times, "--url", server.url).exit_code == 0
    assert parse_qs(urlsplit(server.asked[-1][1]).query) == {
        "status": ["Failed"],
        "app": ["shop"],
        "function": ["order"],
        "query": ["output.a == 1"],
        "since": ["2026-11-27T20:00:00Z"],
        "until": ["2026-11-28T00:00:00Z"],
        "time_field": ["queued_at"],
        "limit": ["20"],
    }
    assert inngest("runs", "list", "--failed", "--since", "2h", "--url", server.url).exit_code == 0
    asked = parse_qs(urlsplit(server.asked[-1][1]).query)
    assert (asked["status"], asked["time_field"]) == (["Failed"], ["ended_at"])
    assert asked["since"][0].endswith("Z")


def test_a_list_asks_for_pages_until_it_has_enough(server: Recorder) -> None:
    run = {
        "run_id": RUN,
        "status": "Failed",
        "app": "s",
        "function_slug": "s-\x1b[31mf",
        "queued_at": "2026-11-27T20:00:00Z",
        "error": {"name": "E", "message": "two\nlines"},
    }
    server.answer({"data": [run] * 100, "page": {"cursor": "next"}})
    result = inngest("runs", "list", "--limit", "250", "--url", server.url)
    assert result.stderr == "There may be more: --cursor next\n"
    asked = [parse_qs(urlsplit(path).query) for _, path, _, _ in server.asked]
    assert [(each["limit"], each.get("cursor")) for each in asked] == [
        (["100"], None),
        (["100"], ["next"]),
        (["50"], ["next"]),
    ]
    assert "\x1b" not in result.stdout
    assert "E: two·lines" in result.stdout


def test_an_event_is_sent_with_what_was_given(server: Recorder, tmp_path: Path) -> None:
    server.answer({"ids": ["1"], "status": 200})
    (tmp_path / "data.json").write_text('{"a": 1}')
    (tmp_path / "key").write_text("k/y")
    options = ["--data", "@data.json", "--user", "-", "--id", "i", "--v", "2", "--ts", "2026-11-27T20:00:00Z"]
    result = inngest(
        "events", "send", "a/b", *options, "--event-key-file", "key", "--url", server.url, given="{}"
    )
    assert (result.exit_code, result.stdout) == (0, "1\n")
    method, path, key, body = server.asked[-1]
    assert (method, path, key) == ("POST", "/e/k%2Fy", None)
    assert json.loads(body) == {
        "name": "a/b", "data": {"a": 1}, "user": {}, "id": "i", "v": "2", "ts": 1795809600000
    }  # fmt: skip


@pytest.mark.parametrize("text", ['{"name":"a"}\n\n{"name":"b"}\n', '[{"name":"a"},{"name":"b"}]'])
def test_whole_events_are_sent(server: Recorder, text: str) -> None:
    server.answer({"ids": ["1", "2"], "status": 200})
    result = inngest("events", "send", "--file", "-", "--json", "--url", server.url, given=text)
    assert json.loads(result.stdout) == {"ids": ["1", "2"]}
    assert json.loads(server.asked[-1][3]) == [{"name": "a"}, {"name": "b"}]


def test_of_a_partly_refused_array_the_accepted_ids_are_told(server: Recorder) -> None:
    server.answer({"ids": ["1"], "status": 400, "error": "event 2 has no name"}, 400)
    result = inngest("events", "send", "--file", "-", "--url", server.url, given='[{"name":"a"},{}]')
    assert (result.exit_code, result.stdout) == (1, "1\n")
    assert "answers 400: event 2 has no name" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either the NAME of an event, or whole events"),
        (["a", "--file", "x"], "give either the NAME of an event, or whole events"),
        (["--file", "missing"], "missing: No such file"),
        (["--file", "-"], "it is neither JSON nor one object a line"),
        (["--file", "-", "--id", "x"], "leave out other options"),
        (["a", "--data", "{"], "it is not JSON"),
        (["a", "--data", "[1]"], "it has to be a JSON object"),
        (["a", "--data", "@missing"], "missing: No such file"),
    ],
)
def test_what_is_no_event_is_not_sent(server: Recorder, arguments: list[str], message: str) -> None:
    result = inngest("events", "send", *arguments, "--url", server.url, given="x")
    assert (result.exit_code, server.asked) == (2, [])
    assert message in " ".join(result.stderr.split())


def test_of_several_runs_each_is_told(server: Recorder) -> None:
    server.body = b""
    result = inngest("runs", "cancel", "1", "2/3", "--url", server.url, "--json")
    assert json.loads(result.stdout) == [{"run_id": "1", "error": None}, {"run_id": "2/3", "error": None}]
    assert [(method, path) for method, path, _, _ in server.asked] == [
        ("DELETE", "/v1/runs/1"),
        ("DELETE", "/v1/runs/2%2F3"),
    ]


# -- how it looks --


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1000, "1.0 s"),
        (59_999, "59.9 s"),
        (60_000, "1 m 0 s"),
        (3_600_000, "1 h 0 m"),
        (90_000_000, "1 d 1 h"),
    ],
)
def test_durations_are_short(ms: int, text: str) -> None:
    assert duration(ms) == text


def test_a_cell_is_one_bounded_line() -> None:
    assert plain("a\nb\x1b") == "a·b·"
    assert plain("x" * 101) == "x" * 99 + "…"
    assert plain(None) == ""
