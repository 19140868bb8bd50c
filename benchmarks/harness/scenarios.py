"""What is measured. Each scenario is given a server of its own, an application and a sender."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from harness import stub
from harness.remote import Remote
from harness.report import Measure, Results, percentile
from harness.sender import Load, Sent, generate
from harness.server import EVENT_KEY, SIGNING_KEY, Server

HOUR_MS = 3_600_000
LONG_SECONDS = 60.0
"""After which something that is waited for will not come any more."""


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    runs: int = 5000
    events: int = 40_000
    samples: int = 300
    """Measured one at a time."""
    few: int = 1000
    many: int = 100_000
    """Runs that are queued while others are measured."""
    idle_seconds: float = 10.0
    pace: float = 0.0
    """Runs a second for the latency under load; 0 for half of what the server can do."""


class Bench:
    """A server with an application and a sender, warm, and the verbs that scenarios are made of."""

    def __init__(
        self,
        setup: str,
        scenario: str,
        scale: Scale,
        results: Results,
        *,
        profile: Path | None = None,
        temporary: Path | None = None,
    ) -> None:
        self.scale = scale
        self._setup = setup
        self._scenario = scenario
        self._results = results
        with ExitStack() as stack:
            self._stub = Remote(stub.serve)
            stack.callback(self._stub.close)
            self._sender = Remote(generate)
            stack.callback(self._sender.close)
            self.server = Server(setup, profile=profile, temporary=temporary)
            stack.callback(self.server.close)
            port = self._stub.hear()
            self._sender.hear()
            bearer = _hashed(SIGNING_KEY) if self.server.signed else ""
            stub.register(self.server.port, port, bearer)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def note(self, name: str, value: float, unit: str, *, target: float | None = None) -> None:
        measure = Measure(self._setup, self._scenario, name, value, unit, target)
        self._results.add(measure)

    def note_percentiles(self, name: str, nanoseconds: Sequence[int], *, target: float | None = None) -> None:
        for share in (50, 90, 99):
            value = percentile(nanoseconds, share) / 1e6
            self.note(f"{name} p{share}", value, "ms", target=target if share == 50 else None)

    def send(
        self, function: str, count: int, *, array: int = 1, pace: float = 0, ids: bool = False, ts: int = 0
    ) -> Sent:
        load = Load(
            port=self.server.port,
            key=EVENT_KEY,
            name=f"{stub.APP}/{function}",
            count=count,
            array=array,
            pace=pace,
            ids=ids,
            ts=ts,
        )
        sent = self._sender.ask(load, seconds=LONG_SECONDS)
        assert isinstance(sent, Sent)
        return sent

    def until(self, what: str, count: int) -> int:
        """Wait until the application has counted that much; the time (ns) of the last end of a run."""
        return int(self._stub.ask("until", what, count, seconds=LONG_SECONDS))

    def take(self) -> dict[str, list[int]]:
        """What the application has measured since it was last asked."""
        taken: dict[str, list[int]] = self._stub.ask("take")
        return taken

    def warm(self, function: str) -> None:
        """Fill pools and caches."""
        count = min(self.scale.runs, 200)
        self.send(function, count, array=10)
        self.until(function, count)
        self.server.settle()
        self.take()

    def burst(self, function: str, count: int, *, array: int) -> Burst:
        """Send ``count`` events as fast as they are accepted, and wait for the end of their runs."""
        cpu, store = self.server.cpu, self.server.store_cpu
        sent = self.send(function, count, array=array)
        ended = self.until(function, count)
        self.server.settle()
        thousand = 1000 / count
        return Burst(
            rate=count / (ended - sent.started) * 1e9,
            cpu=(self.server.cpu - cpu) * thousand,
            store_cpu=(self.server.store_cpu - store) * thousand,
            samples=self.take(),
        )

    def paced(self, function: str, count: int, pace: float) -> dict[str, list[int]]:
        """The samples of ``count`` runs that begin at ``pace`` a second."""
        self.send(function, count, pace=pace)
        self.until(function, count)
        return self.take()


@dataclass(frozen=True)
class Burst:
    """Runs a second; CPU of the server and of the Redis server, in seconds per 1,000 runs."""

    rate: float
    cpu: float
    store_cpu: float
    samples: dict[str, list[int]]


ONE_AT_A_TIME = 50.0
"""Runs a second, each of which is over before the next begins."""


def idle(bench: Bench) -> None:
    """An application is registered, and nothing happens."""
    bench.warm("stepless")
    time.sleep(1)
    before, seconds = bench.server.cpu, bench.scale.idle_seconds
    time.sleep(seconds)
    bench.note("CPU when idle", (bench.server.cpu - before) / seconds * 100, "% of a core", target=0.5)
    bench.note("memory", bench.server.rss, "MiB")


def accept(bench: Bench) -> None:
    """Events that no function takes, one a request."""
    _accept(bench, array=1, target=4000)


def arrays(bench: Bench) -> None:
    """The same in arrays of 100."""
    _accept(bench, array=100, target=40_000)


def _accept(bench: Bench, *, array: int, target: float) -> None:
    count = max(bench.scale.events * (10 if array > 1 else 1), array)
    bench.send("nobody", max(count // 10, 1), array=array)
    bench.server.settle()
    before, rss = bench.server.cpu, bench.server.rss
    sent = bench.send("nobody", count, array=array)
    bench.note("accepted", count / sent.seconds, "events/s", target=target)
    bench.server.settle()
    bench.note("CPU per event", (bench.server.cpu - before) / count * 1e6, "us")
    bench.note("memory before", rss, "MiB")
    bench.note("memory after", bench.server.rss, "MiB")


def stepless(bench: Bench) -> None:
    """Runs of one call."""
    _, single = _runs(bench, "stepless", target=0.4)
    _latency(bench, "stepless", single)


def steps(bench: Bench) -> None:
    """Runs of three steps, four calls."""
    burst, single = _runs(bench, "steps", target=1.2)
    bench.note_percentiles("step to step, burst", burst.samples["step"])
    _latency(bench, "steps", single)


def parallel(bench: Bench) -> None:
    """Runs of ten steps side by side, twelve calls."""
    _runs(bench, "parallel", share=0.2)


def _runs(
    bench: Bench, function: str, *, target: float | None = None, share: float = 1.0
) -> tuple[Burst, Burst]:
    """Runs as fast as they go: their events in arrays, and each in a request of its own."""
    bench.warm(function)
    rss = bench.server.rss
    count = max(int(bench.scale.runs * share), 1)
    burst = bench.burst(function, count, array=100)
    bench.note("runs", burst.rate, "runs/s")
    # SQLite is allowed half as much again; of Redis nothing was said.
    factor = {"memory": 1.0, "sqlite": 1.5, "serve": 1.5}.get(bench.server.setup)
    allowed = target * factor if target is not None and factor is not None else None
    bench.note("CPU per 1,000 runs", burst.cpu, "s", target=allowed)
    if burst.store_cpu:
        bench.note("CPU of Redis per 1,000 runs", burst.store_cpu, "s")
    single = bench.burst(function, count, array=1)
    bench.note("runs, single events", single.rate, "runs/s")
    bench.note("CPU per 1,000 runs, single events", single.cpu, "s", target=allowed)
    bench.note("memory before", rss, "MiB")
    bench.note("memory after", bench.server.rss, "MiB")
    return burst, single


def _latency(bench: Bench, function: str, single: Burst) -> None:
    embedded = bench.server.setup == "memory"
    alone = bench.paced(function, bench.scale.samples, ONE_AT_A_TIME)
    bench.note_percentiles("event to call, idle", alone["first"], target=2.0 if embedded else None)
    if "step" in alone:
        bench.note_percentiles("step to step, idle", alone["step"], target=1.0 if embedded else None)
    # Such events come in requests of their own.
    pace = bench.scale.pace or single.rate / 2
    loaded = bench.paced(function, bench.scale.runs, pace)
    bench.note("pace of the load", pace, "runs/s")
    bench.note_percentiles("event to call, loaded", loaded["first"])
    if "step" in loaded:
        bench.note_percentiles("step to step, loaded", loaded["step"])


def sleep(bench: Bench) -> None:
    """Runs that sleep for a second: at a pace, and all at once."""
    bench.warm("sleep")
    count = bench.scale.samples
    few = bench.paced("sleep", count, ONE_AT_A_TIME)
    embedded = bench.server.setup == "memory"
    bench.note_percentiles("1 s sleep late by", few["late"], target=3.0 if embedded else None)
    at_once = bench.burst("sleep", bench.scale.runs, array=100)
    bench.note_percentiles("1 s sleep late by, burst", at_once.samples["late"])
    bench.note("CPU per 1,000 runs", at_once.cpu, "s")


def wait(bench: Bench) -> None:
    """Runs that wait for an event, each for its own."""
    count = bench.scale.runs
    cpu = bench.server.cpu
    bench.send("wait", count, array=100, ids=True)
    bench.until("waiting", count)
    bench.server.settle()
    bench.take()
    bench.note("CPU per 1,000 waits begun", (bench.server.cpu - cpu) * 1000 / count, "s")
    cpu, few = bench.server.cpu, min(bench.scale.samples, count)
    bench.send("go", few, pace=ONE_AT_A_TIME, ids=True)
    bench.until("wait", few)
    bench.note_percentiles("event to resumption", bench.take()["resume"])
    bench.server.settle()
    bench.note("CPU per 1,000 waits ended", (bench.server.cpu - cpu) * 1000 / few, "s")


def held(bench: Bench) -> None:
    """Step-less runs, while others are queued behind a concurrency limit of one."""
    _backlog(bench, "held", ts=0)


def planned(bench: Bench) -> None:
    """Step-less runs, while others are queued for another day."""
    _backlog(bench, "steps", ts=time.time_ns() // 1_000_000 + 24 * HOUR_MS)


def _backlog(bench: Bench, function: str, *, ts: int) -> None:
    few, many = bench.scale.few, bench.scale.many
    bench.warm("stepless")
    rss = bench.server.rss
    costs = []
    queued = 0
    for size in (few, many):
        bench.send(function, size - queued, array=100, ts=ts)
        queued = size
        bench.server.settle(1.0)
        bench.take()
        burst = bench.burst("stepless", bench.scale.runs, array=100)
        bench.note(f"CPU per 1,000 runs, {size:,} queued", burst.cpu, "s")
        costs.append(burst.cpu)
    bench.note("cost with many to cost with few", costs[1] / max(costs[0], 0.01), "ratio", target=1.25)
    bench.note("memory of a queued run", (bench.server.rss - rss) * 1024 / many, "KiB")
    bench.note("memory after", bench.server.rss, "MiB")


def _hashed(key: str) -> str:
    from inngest.core.sdk.signing import hashed_key

    return hashed_key(key)


SCENARIOS: dict[str, Callable[[Bench], None]] = {
    scenario.__name__: scenario
    for scenario in (idle, accept, arrays, stepless, steps, parallel, sleep, wait, held, planned)
}
