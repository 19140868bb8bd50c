"""The numbers of a process in Prometheus' text format.

Services count in plain attributes (`counts`, `inngest.api.intake`); what a number is called, which labels it
has and what it means stands here, and costs something only when somebody asks. Sizes of the backing systems
are asked for then too, at most once in a few seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import accumulate, islice

import structlog
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from inngest import __version__
from inngest.api.intake import Intake
from inngest.core.errors import StoreUnavailable
from inngest.core.model.functions import Function
from inngest.loops.background import is_own
from inngest.loops.trouble import ERRORS, unexpected
from inngest.ports.engine import Stats
from inngest.ports.stream import Dead
from inngest.services.admission import Admission
from inngest.services.counts import (
    MAX_FUNCTIONS,
    CommitCounts,
    Distribution,
    ExecutorCounts,
    IndexerCounts,
    ReaderCounts,
    RunnerCounts,
)

log = structlog.get_logger("inngest.metrics")

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
SAMPLE_SECONDS = 5.0
"""How long the sizes of the backing systems count."""
PATIENCE_SECONDS = 2.0
"""How long a backing system may take to tell them; the other numbers are told without them then."""

Gauge = Callable[[], Awaitable[int]]


class Metrics:
    """All numbers of a process. Who counts something puts its counts here before the start.

    ``stats`` asks the engine store for its sizes, ``backlogs`` the stream for what waits for each group,
    ``dropped`` for what it has dropped for it, ``dead`` for its dead letters, ``damaged`` the data store for
    what it could not read. ``functions`` are those that are registered, by id.
    """

    def __init__(self) -> None:
        self.commits = CommitCounts()
        self.functions: Callable[[], Mapping[str, Function]] = dict
        self.intake: Intake | None = None
        self.executor: ExecutorCounts | None = None
        self.working: Callable[[], int] | None = None
        self.runner: RunnerCounts | None = None
        self.indexer: IndexerCounts | None = None
        self.stats: Callable[[], Awaitable[Stats]] | None = None
        self.damaged: Callable[[], int] | None = None
        self.admission: Admission | None = None
        self.backlogs: Mapping[str, Gauge] = {}
        self.dropped: Mapping[str, Gauge] = {}
        self.dead: Callable[[], Awaitable[Dead]] | None = None
        self._sizes: Stats | None = None
        self._waiting: dict[str, int] = {}
        self._gone: dict[str, int] = {}
        self._letters: Dead | None = None
        self._sampled = 0.0
        self._turn = asyncio.Lock()
        self.registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.registry.register(_Export(self))

    async def render(self) -> bytes:
        async with self._turn:
            now = asyncio.get_running_loop().time()
            if not self._sampled or now - self._sampled >= SAMPLE_SECONDS:
                await self._sample()
                self._sampled = now
        return generate_latest(self.registry)

    async def _sample(self) -> None:
        self._sizes, self._waiting, self._gone, self._letters = None, {}, {}, None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                if self.stats is not None:
                    self._sizes = await self.stats()
                for group, backlog in self.backlogs.items():
                    self._waiting[group] = await backlog()
                for group, dropped in self.dropped.items():
                    self._gone[group] = await dropped()
                if self.dead is not None:
                    self._letters = await self.dead()
        except (StoreUnavailable, TimeoutError) as error:
            log.debug("sizes are not known", action="metrics.sample", error=str(error))
        except (Exception, asyncio.CancelledError) as error:
            if is_own(error):
                raise
            unexpected("metrics.sample", error)

    # -- families --

    def families(self) -> Iterator[Metric]:
        yield _gauge(
            "inngest_build_info", "The version of this server; always 1.", {__version__: 1}, "version"
        )
        yield _counters(
            "inngest_loop_errors",
            "Unexpected errors in the background work of this process, which goes on, by what was done.",
            ERRORS,
            "loop",
        )
        yield from self._connections()
        yield from self._intake()
        yield from self._commits()
        yield from self._executor()
        yield from self._lags()
        yield from self._refusals()
        yield from self._samples()

    def _connections(self) -> Iterator[Metric]:
        if (admission := self.admission) is not None:
            yield GaugeMetricFamily(
                "inngest_connections", "Connections of clients with this process.", admission.count
            )
            yield _counter(
                "inngest_connections_refused",
                "Connections that found no place, or lost it to others.",
                admission.refused,
            )

    def _intake(self) -> Iterator[Metric]:
        if (intake := self.intake) is not None:
            yield _counter("inngest_events_accepted", "Events accepted by the event API.", intake.events)
            yield _counter("inngest_event_bytes", "Bytes of the requests with these events.", intake.bytes)
            yield _counters(
                "inngest_event_requests_refused",
                "Requests to the event API that were refused, wholly or in part, by reason.",
                intake.refused,
                "reason",
            )

    def _commits(self) -> Iterator[Metric]:
        commits = self.commits
        started = "Runs that this process has created."
        yield self._by_function("inngest_runs_started", started, {"": commits.started})
        yield self._by_function(
            "inngest_runs_ended", "Runs that this process has ended, by status.", commits.ended, "status"
        )
        yield self._by_function(
            "inngest_steps",
            "Attempts at steps and at the code between them that this process has recorded, by outcome.",
            commits.steps,
            "outcome",
        )

    def _by_function(
        self, name: str, text: str, counts: Mapping[str, Mapping[str, int]], label: str = ""
    ) -> CounterMetricFamily:
        """Functions that are registered begin at 0, since a first failure is to be seen as an increase."""
        more = [label] if label else []
        family = CounterMetricFamily(name, text, labels=["app", "fn", *more])
        functions = self.functions()
        live = (key for key, fn in functions.items() if not fn.archived)
        shown = dict.fromkeys(islice(live, MAX_FUNCTIONS), 0)
        for value, each in counts.items():
            for key, count in {**shown, **each}.items():
                fn = functions.get(key)
                labels = [fn.app, fn.slug] if fn is not None else ["", key]
                family.add_metric([*labels, value.lower()] if label else labels, count)
        return family

    def _executor(self) -> Iterator[Metric]:
        if (executor := self.executor) is None:
            return
        if self.working is not None:
            yield GaugeMetricFamily(
                "inngest_executor_items", "Queue items in the hands of this executor.", self.working()
            )
        yield GaugeMetricFamily(
            "inngest_calls_in_flight", "Calls of applications that are under way.", executor.calls
        )
        yield _histogram(
            "inngest_call_duration_seconds", "How long calls of applications took.", executor.duration
        )
        yield _histogram(
            "inngest_queue_lateness_seconds",
            "How long items were due before work on them began.",
            executor.lateness,
        )
        yield _counter("inngest_leases_lost", "Leases that ran out before the work was done.", executor.lost)
        yield _counter("inngest_commits_stale", "Results refused because the lease was lost.", executor.stale)

    def _lags(self) -> Iterator[Metric]:
        if (runner := self.runner) is not None:
            yield _histogram(
                "inngest_event_lag_seconds",
                "From the acceptance of an event to the decision about the runs that it starts.",
                runner.lag,
            )
            yield _counter(
                "inngest_orphans", "Runs that the reaper found with nothing to move them.", runner.orphans
            )
        if (indexer := self.indexer) is not None:
            yield _histogram(
                "inngest_indexer_lag_seconds",
                "From the acceptance of an event to its place in the data store, oldest of each batch.",
                indexer.lag,
            )
        if self.damaged is not None:
            yield _counter(
                "inngest_data_damaged",
                "How often a record of the data store could not be read and was left out.",
                self.damaged(),
            )

    def _refusals(self) -> Iterator[Metric]:
        readers: dict[str, ReaderCounts] = {}
        if self.runner is not None:
            readers["runner"] = self.runner.reader
        if self.indexer is not None:
            readers["indexer"] = self.indexer.reader
        if not readers:
            return
        family = CounterMetricFamily(
            "inngest_events_refused",
            "Events that a consumer group could not read, process, or even keep as dead letters.",
            labels=["group", "reason"],
        )
        for group, counts in readers.items():
            for reason in ("undecodable", "refused", "lost"):
                family.add_metric([group, reason], getattr(counts, reason))
        yield family
        if self.indexer is not None:
            yield _counter(
                "inngest_history_refused",
                "Entries of the history that the data store did not take.",
                self.indexer.refused_history,
            )

    def _samples(self) -> Iterator[Metric]:
        if (sizes := self._sizes) is not None:
            yield GaugeMetricFamily(
                "inngest_history_dropped",
                "Entries of history that were dropped, since the data store was away for too long.",
                sizes.dropped,
            )
            yield GaugeMetricFamily(
                "inngest_engine_damaged",
                "Records of the engine store that could not be read, and were left out.",
                sizes.damaged,
            )
            yield GaugeMetricFamily("inngest_engine_runs", "Runs that have not ended.", sizes.runs)
            yield GaugeMetricFamily("inngest_engine_queued", "Queue items that nobody has.", sizes.queued)
            yield GaugeMetricFamily("inngest_engine_leased", "Queue items that are leased.", sizes.leased)
            yield GaugeMetricFamily(
                "inngest_engine_pauses", "Waits of runs, for events and others.", sizes.pauses
            )
            yield GaugeMetricFamily(
                "inngest_engine_outbox",
                "Entries on their way to the stream and the data store.",
                sizes.outbox,
            )
        if self._waiting:
            yield _gauge(
                "inngest_stream_backlog",
                "Events that wait for a consumer group, unacknowledged ones included.",
                self._waiting,
                "group",
            )
        if self._gone:
            yield _gauge(
                "inngest_stream_dropped",
                "Events that a consumer group was never given, since it lagged too far behind.",
                self._gone,
                "group",
            )
        if (letters := self._letters) is not None:
            yield GaugeMetricFamily(
                "inngest_dead_letters", "Records that nobody could process, kept aside.", letters.letters
            )
            yield GaugeMetricFamily(
                "inngest_dead_letter_bytes", "Bytes of the bodies of dead letters.", letters.bytes
            )
            yield GaugeMetricFamily(
                "inngest_dead_letters_dropped",
                "Dead letters that were dropped for want of room, ever.",
                letters.dropped,
            )


class _Export(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return self._metrics.families()


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value)


def _counters(name: str, text: str, values: Mapping[str, float], label: str) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key.lower()], value)
    return family


def _gauge(name: str, text: str, values: Mapping[str, float], label: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _histogram(name: str, text: str, values: Distribution) -> HistogramMetricFamily:
    bounds = [*(str(float(bound)) for bound in values.bounds), "+Inf"]
    buckets = list(zip(bounds, accumulate(values.counts), strict=True))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=values.total)
