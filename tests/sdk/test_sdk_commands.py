"""`inngest runs|events|apps` over a real server with real applications: what they print, word for word.

Ids, times, durations and addresses are masked; everything else is compared with the files of ``golden/``,
which ``GOLDEN=write`` writes anew.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from environments import ROOT
from harness import HttpError, Line, eventually

GOLDEN = Path(__file__).parent / "golden"
_MASKS = (
    (re.compile(r"\b[0-9A-HJKMNP-TV-Z]{26}\b"), "<id>"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"\b[0-9a-f]{40}\b"), "<step>"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "<key>"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z"), "<time>"),
    (re.compile(r"http://127\.0\.0\.1:\d+"), "<url>"),
    (re.compile(r"\b\d+(\.\d)? (ms|s|m)\b( \d+ s)?"), "<took>"),
    (re.compile(r"\bpy \d+\.\d+\.\d+\b"), "py <version>"),
    (re.compile(r'(File ")[^"]*/([^"/]+", line )\d+'), r"\1…/\2<n>"),
    (re.compile(r"(?m)^py +\d+ "), "py  <n> "),  # whatever scenarios it has
    (re.compile(r"\d+ functions"), "<n> functions"),
    (re.compile(r"  +"), "  "),
)


def mask(text: str) -> str:
    for pattern, word in _MASKS:
        text = pattern.sub(word, text)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def inngest(line: Line, *arguments: str, code: int = 0, given: str = "") -> tuple[str, str]:
    """What a command prints, on standard output and standard error."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("INNGEST_")}
    keys = {"INNGEST_SIGNING_KEY": line.server.signing_key, "INNGEST_EVENT_KEY": line.server.event_key}
    done = subprocess.run(
        [sys.executable, "-m", "inngest.cli", *arguments],
        cwd=ROOT,
        env={**inherited, **keys, "INNGEST_BASE_URL": line.server.url},
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    return done.stdout, done.stderr


def golden(name: str, *parts: str) -> None:
    """Compare what was printed with a file."""
    told = mask("".join(parts))
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("GOLDEN") == "write":
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(told)
    assert told == path.read_text()


def shown_by_rest(line: Line, event: str) -> bool:
    try:
        return bool(line.server.api("GET", f"/v1/events/{event}"))
    except HttpError:
        return False


def own(line: Line) -> tuple[str, str]:
    """Of all that the tests share, what this one has sent."""
    return "--query", f"event.data.k == '{line.key}'"


@pytest.mark.sdk("py")
def test_failures_are_found_and_looked_at(line: Line) -> None:
    good = line.completed("sequential", n=1)
    bad = line.run("non-retriable")
    golden("runs-list", *inngest(line, "runs", "list", *own(line), "--since", "1h"))
    failed, more = inngest(line, "runs", "list", "--failed", "--since", "1h", *own(line), "--json")
    assert ([run["run_id"] for run in json.loads(failed)], more) == ([bad.id], "")
    golden("runs-list-json", failed)
    golden("runs-show-completed", *inngest(line, "runs", "show", good.id))
    golden("runs-show-failed", *inngest(line, "runs", "show", bad.id))
    told = json.loads(inngest(line, "runs", "show", good.id, "--json")[0])
    assert told["output"] == {"total": 6}
    assert [(step["name"], step["output"]) for step in told["steps"][:2]] == [("one", 1), ("two", 2)]


def test_failures_of_every_sdk_are_shown(line: Line) -> None:
    run = line.run("non-retriable")
    listed, _ = inngest(line, "runs", "list", "--failed", *own(line), "--json")
    (failed,) = json.loads(listed)
    assert (failed["run_id"], failed["error"]["message"]) == (run.id, "bad input")
    shown, _ = inngest(line, "runs", "show", run.id)
    assert shown.startswith(f"Run {run.id}: Failed\n")
    assert "bad input" in shown.split("\nError\n")[1].splitlines()[0]
    tried = line.completed("step-retry", failures=1)
    shown, _ = inngest(line, "runs", "show", tried.id)
    assert [text.split()[2] for text in shown.splitlines() if text.startswith("    attempt")] == [
        "Failed",
        "Completed",
    ]


@pytest.mark.sdk("py")
def test_attempts_are_shown(line: Line) -> None:
    run = line.completed("step-retry", failures=1)
    golden("runs-show-attempts", *inngest(line, "runs", "show", run.id))


@pytest.mark.sdk("py")
def test_a_list_is_paged(line: Line) -> None:
    runs = [line.completed("sequential", n=n).id for n in range(3)]
    first, told = inngest(line, "runs", "list", "--limit", "2", "--json", *own(line))
    cursor = told.split()[-1]
    assert told == f"There may be more: --cursor {cursor}\n"
    rest, end = inngest(line, "runs", "list", "--json", "--cursor", cursor, *own(line))
    assert [run["run_id"] for run in (*json.loads(first), *json.loads(rest))] == runs[::-1]
    assert end == ""
    shown, _ = inngest(line, "runs", "list", "--query", "output.total == 7", *own(line), "--json")
    assert [run["run_id"] for run in json.loads(shown)] == [runs[2]]


@pytest.mark.sdk("py")
def test_a_run_is_cancelled(line: Line) -> None:
    run = line.server.wait_started(line.send("long-sleep"))
    line.wait_executed(run.id, "before")
    done = line.completed("sequential")
    unknown = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    golden("runs-cancel", *inngest(line, "runs", "cancel", run.id, done.id, unknown, code=1))
    assert line.server.wait_ended(run.id).status == "Cancelled"
    golden("runs-show-cancelled", *inngest(line, "runs", "show", run.id))


@pytest.mark.sdk("py")
def test_a_run_is_repeated(line: Line) -> None:
    run = line.completed("sequential", n=1)
    told = inngest(line, "runs", "rerun", run.id)
    golden("runs-rerun", *told)
    again = line.server.wait_ended(told[0].split()[-1])
    assert (again.output, line.app.executions(again.id)["one"]) == (run.output, 1)
    shown, _ = inngest(line, "runs", "rerun", "--from-step", "two", "--json", run.id)
    (result,) = json.loads(shown)
    kept = line.server.wait_ended(result["new_run_id"])
    assert (kept.output, line.app.executions(kept.id)["one"]) == (run.output, 0)
    golden("runs-rerun-refused", *inngest(line, "runs", "rerun", "--from-step", "ten", run.id, code=1))


@pytest.mark.sdk("py")
def test_events_are_sent_and_listed(line: Line) -> None:
    data = json.dumps({"k": line.key, "n": 1})
    sent = inngest(line, "events", "send", f"{line.name}/sequential", "--data", data)
    golden("events-send", *sent)
    line.server.wait_run(sent[0].strip())
    many = "".join(json.dumps(line.event("nothing", n=n)) + "\n" for n in range(2))
    told = json.loads(inngest(line, "events", "send", "--file", "-", "--json", given=many)[0])
    for event in (*told["ids"], sent[0].strip()):
        eventually(lambda event=event: shown_by_rest(line, event), f"the history of event {event}")
    names = [part for name in ("sequential", "nothing") for part in ("--name", f"{line.name}/{name}")]
    listed = inngest(line, "events", "list", *names, *own(line), "--query", "has(event.data.n)")
    golden("events-list", *listed)
    shown = json.loads(inngest(line, "events", "list", "--limit", "3", "--json", *own(line))[0])
    assert len(shown) == 3
    assert {"internal_id", "name", "data", "runs", "received_at"} <= shown[0].keys()


@pytest.mark.sdk("py")
def test_apps_are_listed_and_synced(line: Line) -> None:
    apps: list[dict[str, Any]] = json.loads(inngest(line, "apps", "list", "--json")[0])
    (app,) = [app for app in apps if app["name"] == line.name]
    assert f"{line.name}-sequential" in [function["slug"] for function in app["functions"]]
    table, _ = inngest(line, "apps", "list")
    golden(
        "apps-list", *(text + "\n" for text in table.splitlines() if text.split()[0] in {"APP", line.name})
    )
    golden("apps-sync", *inngest(line, "apps", "sync", line.name))
    golden("apps-sync-refused", *_without_names(inngest(line, "apps", "sync", "nowhere", code=1)))


def _without_names(told: tuple[str, str]) -> tuple[str, str]:
    """Which applications there are depends on the tests that ran before."""
    return told[0], re.sub(r"there are .*", "there are …", told[1])
