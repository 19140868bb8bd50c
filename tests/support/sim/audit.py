"""The auditor: at the end of a seed, what the invariants say (reference/reliability.md, section 2).

It compares three accounts: what the stream accepted, what the engine committed, and what the applications
were asked and answered.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec

from inngest.core.decisions.matching import matches, trigger_names
from inngest.core.decisions.starting import run_key
from inngest.core.model.events import FINISHED, INVOKED, Event
from inngest.core.model.functions import Function
from inngest.core.model.history import What
from inngest.core.model.runs import PauseKind, Run, RunStatus
from inngest.core.policy import KEY_TTL, REMEMBERED, SETTLING
from inngest.core.timing import gcra
from inngest.core.timing.cron import parse_cron
from sim.people import subscribed
from sim.process import EPOCH
from sim.programs import FETCH, INVOKE, RUN, SIGNAL, SLEEP, WAIT, Leaf, can_fail, leaves
from sim.truth import Accepted

if TYPE_CHECKING:
    from sim.world import World

_decode = msgspec.json.decode


def look_at_crons(world: World) -> None:
    """Each schedule has exactly one next tick."""
    queued = world.stores.cron_items()
    for fn in world.shadow.functions.values():
        schedules = [trigger.cron for trigger in fn.triggers if trigger.cron and not fn.archived]
        jobs = queued.get(fn.id, [])
        if len(jobs) != len(schedules):
            world.violate(6, "cron-items", f"{fn.slug}: {jobs} for {schedules}")


async def audit(world: World, healed: int) -> None:
    """Look at everything. ``healed``: since when (ms) nothing goes wrong any more."""
    await _Audit(world, healed).all()


class _Audit:
    def __init__(self, world: World, healed: int) -> None:
        self.world = world
        self.truth = world.truth
        self.healed = healed
        self.functions: dict[str, Function] = dict(world.shadow.functions)
        self.definitions = {
            fn.slug: fn for app in world.applications.values() for fn in app.functions.values()
        }
        self.features = world.plan.features
        self.leaves: dict[str, dict[str, Leaf]] = {
            slug: {leaf.id: leaf for leaf in leaves(fn.program.body)} for slug, fn in self.definitions.items()
        }
        self.by_key: defaultdict[str, list[Run]] = defaultdict(list)
        self.by_event: defaultdict[tuple[str, str], list[Run]] = defaultdict(list)
        self.skipped: set[str] = set()
        self.skips: defaultdict[tuple[str, str], int] = defaultdict(int)

    def violate(self, rule: int, code: str, text: str) -> None:
        self.world.violate(rule, code, text)

    async def all(self) -> None:
        self._adopt()
        for run in (started.run for started in self.truth.created.values()):
            if not run.original:
                self.by_key[run.key].append(run)
                for event in run.event_ids:
                    self.by_event[run.fn, event].append(run)
        for entry in self.truth.history:
            if entry.what is What.SKIPPED:
                self.skipped.add(entry.run)
                if (entry.info or {}).get("original"):
                    continue
                for event in (entry.info or {}).get("events", []):
                    self.skips[entry.fn, event] += 1
        self._senders()
        self._deliveries()
        self._ends()
        self._history()
        self._results()
        self._waits()
        self._cancellations()
        self._people()
        self._limits()
        self._crons()
        await self._leftovers()
        await self._shown()
        await self._letters()

    def _adopt(self) -> None:
        """Where a process died together with its store, a commit may have happened that nobody has seen."""
        if self.world.stores.seen:
            return
        alive = self.world.stores.known_runs()
        for run, end in self.truth.ending.items():
            if run in self.truth.created and run not in self.truth.ended and run not in alive:
                self.truth.ended[run] = end

    # -- 1, 2, 10: events --

    def _senders(self) -> None:
        for sent in self.truth.sent:
            if sent.answer == 200:
                for internal in sent.ids:
                    known = self.truth.accepted.get(internal)
                    if known is None or not known.kept:
                        self.violate(1, "acknowledged-not-kept", f"{internal} {sent.name}")
            elif sent.answer == 0 or sent.answer >= 500:
                if not sent.bad:
                    self.violate(1, "never-acknowledged", f"{sent.name}: {sent.tries} tries, {sent.answer}")
            elif not sent.bad:
                self.violate(2, "refused", f"{sent.name} {sent.data}: {sent.answer}")

    def _deliveries(self) -> None:
        """Every accepted event has exactly one run for each function that takes it, or is accounted for."""
        by_key: defaultdict[str, list[Accepted]] = defaultdict(list)
        for accepted in self.truth.accepted.values():
            by_key[accepted.event.key].append(accepted)
        expected: set[tuple[str, str]] = set()
        for key, group in by_key.items():
            must, may = self._subscribers(group)
            for fn_id in may:
                expected.add((fn_id, key))
                self._delivered(self.functions[fn_id], key, group, must=fn_id in must)
        for (fn_id, event), runs in self.by_event.items():
            accepted = self.truth.accepted.get(event)
            if accepted is None:
                if not runs[0].cron:
                    self.violate(1, "run-of-no-event", f"{runs[0].id} of {event}")
            elif (fn_id, accepted.event.key) not in expected:
                self.violate(1, "run-not-asked-for", f"{runs[0].slug}: {accepted.event.name} {event}")

    def _subscribers(self, group: list[Accepted]) -> tuple[set[str], set[str]]:
        """The functions that must, and that may, take an event; ``group`` are its acceptances."""
        must: set[str] = set()
        may: set[str] = set()
        for accepted in group:
            event = accepted.event
            done = accepted.acked.get("runner", 1 << 60)
            sets = [
                {fn.id for fn in live.values() if self._takes(fn, event)}
                for live in subscribed(self.truth.registered, accepted.at, done)
            ]
            if accepted.kept:
                must |= set.intersection(*sets)
            may |= set.union(*sets)
        return must, may

    def _takes(self, fn: Function, event: Event) -> bool:
        if event.name == INVOKED:
            return event.meta.get("fn_id") in {fn.slug, fn.id}
        return matches(fn, event, trigger_names(event.name), event.received, lambda *_: None)

    def _delivered(self, fn: Function, key: str, group: list[Accepted], *, must: bool) -> None:
        event = group[0].event
        runs = self.by_key.get(run_key(fn, key), [])
        where = f"{fn.slug}: {event.name} {event.id} accepted at {group[0].at}"
        if fn.batch is not None:
            self._batched(fn, group, must=must)
            return
        times = sorted(run.created for run in runs)
        if any(each.last() - each.first() > SETTLING for each in group):
            return  # its sender has slept for longer than anybody remembers
        if any(after - before < KEY_TTL for before, after in pairwise(times)):
            self.violate(1, "two-runs", f"{where}: {[run.id for run in runs]}")
        skipped = sum(self.skips[fn.id, each.event.id] for each in group)
        for each in group:
            done = len(self.by_event[fn.id, each.event.id]) + self.skips[fn.id, each.event.id]
            if done > 1:
                self.violate(1, "decided-twice", f"{where}: {done} runs or skips of {each.event.id}")
        if runs or not must:
            return
        if fn.rate_limit is not None or fn.debounce is not None:
            return  # see `_limits`
        if fn.singleton is not None and skipped:
            if fn.singleton.mode == "cancel":
                self._overtaken(fn, group[0], where)
            return
        if skipped:
            self.violate(1, "skipped", where)
        else:
            self.violate(1, "no-run", where)

    def _overtaken(self, fn: Function, accepted: Accepted, where: str) -> None:
        """With mode cancel, only an event that a newer one has overtaken may be skipped."""
        others = [
            other
            for other in self.truth.accepted.values()
            if other is not accepted and self._same_lock(fn, accepted.event, other.event)
        ]
        again = (self.truth.created[new].run for _, new in self.truth.reruns if new in self.truth.created)
        if any(run.fn == fn.id and run.created >= accepted.first() for run in again):
            return
        if all(accepted.first() > other.last() for other in others):
            self.violate(9, "newest-skipped", where)

    def _same_lock(self, fn: Function, one: Event, other: Event) -> bool:
        if not self._takes(fn, other):
            return False
        return not (fn.singleton and fn.singleton.key) or _key(one) == _key(other)

    def _batched(self, fn: Function, group: list[Accepted], *, must: bool) -> None:
        for accepted in group:
            runs = self.by_event.get((fn.id, accepted.event.id), [])
            if len(runs) > 1:
                self.violate(10, "two-batches", f"{fn.slug} {accepted.event.id}: {[run.id for run in runs]}")
            elif not runs and must and accepted.kept:
                self.violate(10, "no-batch", f"{fn.slug} {accepted.event.id} accepted at {accepted.at}")
            for run in runs:
                assert fn.batch is not None
                if len(run.events) > fn.batch.max_size:
                    self.violate(10, "batch-too-large", f"{run.id}: {len(run.events)}")

    # -- 4, 5: ends --

    def _ends(self) -> None:
        truth = self.truth
        told: Counter[str] = Counter()
        for accepted in truth.accepted.values():
            if accepted.event.name == FINISHED and accepted.kept:
                told[accepted.event.value["data"]["run_id"]] += 1
        for run_id, started in truth.created.items():
            run = started.run
            end = truth.ended.get(run_id)
            if end is None:
                self.violate(5, "never-ended", f"{run_id} of {run.slug}")
                continue
            if told[run_id] != 1:
                self.violate(
                    4, "end-not-told-once", f"{run_id} of {run.slug}: {told[run_id]} finished events"
                )
            self._outcome(run, end.status)
        for event in truth.emitted.values():
            if event.id not in truth.accepted:
                self.violate(16, "emitted-not-accepted", f"{event.name} {event.id}")

    def _outcome(self, run: Run, status: RunStatus) -> None:
        truth = self.truth
        fn = self.functions[run.fn]
        program = self.definitions[run.slug].program
        if status is RunStatus.FAILED:
            if run.id not in truth.mistreated and not can_fail(program.body, program.retries):
                self.violate(3, "failed-for-nothing", f"{run.id} of {run.slug}")
        elif status is RunStatus.COMPLETED and run.id not in truth.returned:
            self.violate(4, "completed-by-nobody", f"{run.id} of {run.slug}")
        elif status is RunStatus.CANCELLED:
            reason = (
                run.id in truth.cancelling
                or (fn.singleton is not None and fn.singleton.mode == "cancel")
                or any(order["slug"] == run.slug for order in truth.bulk)
                or self._cancelling_events(run, fn)
            )
            if not reason and not self._timed_out(run, fn):
                self.violate(8, "cancelled-for-nothing", f"{run.id} of {run.slug}")

    def _timed_out(self, run: Run, fn: Function) -> bool:
        """Whether it was cancelled because its start, or its end, took too long."""
        at, called = self.truth.ended[run.id].at, self.truth.first_call.get(run.id)
        late = fn.start_timeout and at >= run.created - EPOCH + fn.start_timeout
        return bool(late or (fn.finish_timeout and called is not None and at >= called + fn.finish_timeout))

    def _history(self) -> None:
        """What people see tells of each run once (and of nothing else)."""
        if not self.world.stores.seen:
            return  # what was committed in the moment of a death is not seen from here
        scheduled: Counter[str] = Counter()
        ended: Counter[str] = Counter()
        for entry in self.truth.history:
            if entry.what is What.SCHEDULED:
                scheduled[entry.run] += 1
            elif entry.what is What.ENDED:
                ended[entry.run] += 1
        for run in self.truth.created:
            if scheduled[run] != 1 or ended[run] != 1:
                self.violate(4, "history-not-once", f"{run}: scheduled {scheduled[run]}, ended {ended[run]}")

    # -- 3, 6: results --

    def _results(self) -> None:
        truth = self.truth
        for (run_id, step), (raw, at) in truth.saved.items():
            started = truth.created.get(run_id)
            if started is None or (leaf := self.leaves[started.run.slug].get(step)) is None:
                self.violate(3, "result-of-nothing", f"{run_id} {step}")
                continue
            if started.run.original:
                continue  # with the results of another run
            self._result(run_id, leaf, raw, at)

    def _result(self, run_id: str, leaf: Leaf, raw: bytes, at: int) -> None:
        truth, step = self.truth, leaf.id
        made = truth.computed.get((run_id, step), [])
        if leaf.op == RUN:
            if raw.startswith(b'{"error"'):
                if "error" not in made and leaf.errors == 0 and leaf.ok:
                    self.violate(3, "error-of-nobody", f"{run_id} {step}: {raw[:100]!r}")
            elif "bad" not in made and _text(raw) not in made:
                self.violate(3, "result-of-no-call", f"{run_id} {step}: {raw[:100]!r}, made were {made}")
            return
        reported = truth.reported.get((run_id, step))
        if reported is None:
            self.violate(3, "result-unasked", f"{run_id} {step}")
            return
        due = reported[0] + leaf.seconds * 1000
        if raw == b"null" and at < due and leaf.op in {SLEEP, WAIT, SIGNAL}:
            self.violate(6, "timer-early", f"{run_id} {step} {leaf.op}: {due - at} ms")
        if leaf.op == WAIT and raw != b"null" and f'"{run_id}/{step}"'.encode() not in raw:
            self.violate(7, "wrong-event", f"{run_id} {step}: {raw[:200]!r}")
        if leaf.op == INVOKE and raw.startswith(b'{"data"'):
            text = _text(raw)
            if text not in truth.returned.get(text.partition("/")[0], []):
                self.violate(3, "invoked-result", f"{run_id} {step}: {raw[:200]!r}")
        if leaf.op == FETCH and b"fetched" not in raw:
            self.violate(3, "fetched-result", f"{run_id} {step}: {raw[:200]!r}")

    # -- 7: waits --

    def _waits(self) -> None:
        truth = self.truth
        going: defaultdict[str, list[Accepted]] = defaultdict(list)
        for accepted in truth.accepted.values():
            if accepted.event.name == "sim/go" and accepted.kept:
                going[accepted.event.value["data"]["go"]].append(accepted)
        for pause, since in truth.pauses.values():
            if pause.kind is not PauseKind.EVENT:
                continue
            saved = truth.saved.get((pause.run, pause.step))
            if saved is None or saved[0] != b"null":
                continue
            for accepted in going[f"{pause.run}/{pause.step}"]:
                acked = accepted.acked.get("runner")
                in_time = since < accepted.at < pause.expires - EPOCH
                if in_time and acked is not None and acked < saved[1]:
                    self.violate(
                        7,
                        "wait-missed",
                        f"{pause.id} since {since}, {accepted.event.id} accepted at {accepted.at}, "
                        f"done at {acked}, timed out at {saved[1]}",
                    )

    # -- 8: cancellations --

    def _cancelling_events(self, run: Run, fn: Function) -> list[Accepted]:
        found = []
        for cancel in fn.cancel:
            for accepted in self.truth.accepted.values():
                event = accepted.event
                if event.name != cancel.event or event.id in run.event_ids:
                    continue
                first = self.truth.accepted.get(run.event_ids[0])
                if cancel.condition and (first is None or _key(first.event) != _key(event)):
                    continue
                found.append(accepted)
        return found

    def _cancellations(self) -> None:
        truth = self.truth
        for run_id, started in truth.created.items():
            run, end = started.run, truth.ended.get(run_id)
            fn = self.functions[run.fn]
            first = truth.accepted.get(run.event_ids[0])
            if end is None or end.status is RunStatus.CANCELLED or first is None or run.original or run.cron:
                continue
            if not fn.cancel or run.batch:
                continue
            if run_id in truth.recalls and not 0 < truth.recalls[run_id] < end.at:
                continue  # it was over before anybody looked
            for accepted in self._cancelling_events(run, fn):
                acked = accepted.acked.get("runner")
                if acked is None or acked >= end.at or accepted.first() <= first.last():
                    continue
                # What came that long before the run is not remembered any more.
                recalled = EPOCH + started.at - accepted.first() < REMEMBERED
                in_time = not fn.cancel[0].timeout or acked - started.at < 25_000
                if recalled and in_time:
                    self.violate(
                        8,
                        "cancel-missed",
                        f"{run_id} of {run.slug} from {first.at}, {accepted.event.id} accepted at "
                        f"{accepted.at}, done at {acked}; {end.status} at {end.at}",
                    )

    def _people(self) -> None:
        truth = self.truth
        for run, at in truth.cancelled.items():
            end = truth.ended.get(run)
            if end is None or end.at > at:
                self.violate(8, "cancel-not-done", f"{run}, confirmed at {at}")
        for order in truth.bulk:
            if order["done"]:
                self._bulk(order)
        for original, new in truth.reruns:
            started = truth.created.get(new)
            if new not in self.skipped and (started is None or started.run.original != original):
                self.violate(17, "rerun-lost", f"{new} of {original}")
        for name, value, run in truth.signals:
            if run and not any(
                at[0].find(value.encode()) >= 0 for (each, _), at in truth.saved.items() if each == run
            ):
                self.violate(7, "signal-lost", f"{name} {value} for {run}")

    def _bulk(self, order: dict[str, Any]) -> None:
        for run_id, started in self.truth.created.items():
            run, end = started.run, self.truth.ended.get(run_id)
            if run.slug != order["slug"] or run.created > order["before"] - 1000 or end is None:
                continue
            if order["condition"] and b'"key":"a"' not in run.events[0]:
                continue
            if started.at < order["asked"] and end.at > max(order["done"], self.healed) + 60_000:
                self.violate(
                    17, "bulk-missed", f"{run_id}, ordered at {order['asked']}, {end.status} at {end.at}"
                )

    # -- 6, 9, 10: limits --

    def _limits(self) -> None:
        runs = [started.run for started in self.truth.created.values() if not started.run.original]
        for fn in self.functions.values():
            own = [run for run in runs if run.fn == fn.id]
            if fn.singleton is not None:
                self._locks(fn)
            if fn.rate_limit is not None:
                self._rates(fn, own)
            if fn.debounce is not None:
                self._debounces(fn)
            if fn.throttle is not None:
                self._throttles(fn)

    def _locks(self, fn: Function) -> None:
        by_lock: defaultdict[str, list[tuple[int, int, str]]] = defaultdict(list)
        for run_id, started in self.truth.created.items():
            if started.run.fn == fn.id and started.run.lock and (end := self.truth.ended.get(run_id)):
                over = min(end.at, self.truth.evicted.get(run_id, end.at))
                by_lock[started.run.lock].append((started.at, over, run_id))
        if not self.world.stores.seen:
            return
        for lock, spans in by_lock.items():
            spans.sort()
            for before, after in pairwise(spans):
                if after[0] < before[1]:
                    self.violate(9, "singleton-twice", f"{lock}: {before} and {after}")

    def _rates(self, fn: Function, runs: list[Run]) -> None:
        assert fn.rate_limit is not None
        keyed = bool(fn.rate_limit.key)
        params = gcra.rate_limit(fn.rate_limit.limit, fn.rate_limit.period)
        by_key: defaultdict[str, list[Run]] = defaultdict(list)
        for run in runs:
            if run.cron:
                continue
            by_key[_data(run).get("key", "") if keyed else ""].append(run)
        for key, own in by_key.items():
            tat = None
            for run in sorted(own, key=self._admitted):
                at = self._admitted(run)
                admission = gcra.admit(params, tat, at * 1000)
                if not admission.admitted and admission.retry_at - at * 1000 > 1000:
                    self.violate(9, "rate-exceeded", f"{fn.slug} {key}: {run.id} at {at - EPOCH}")
                    break
                tat = admission.tat or tat
        wanted = {
            _key(accepted.event) if keyed else ""
            for accepted in self.truth.accepted.values()
            if accepted.kept and self._must(fn, accepted)
        }
        for key in wanted - set(by_key):
            self.violate(1, "rate-none", f"{fn.slug}: no run for {key!r}")

    def _admitted(self, run: Run) -> int:
        """When it was created, by the store's time."""
        if not self.world.stores.seen:
            return run.created  # which is the store's there
        return EPOCH + self.truth.created[run.id].at

    def _must(self, fn: Function, accepted: Accepted) -> bool:
        return fn.id in self._subscribers([accepted])[0]

    def _debounces(self, fn: Function) -> None:
        assert fn.debounce is not None
        keyed = bool(fn.debounce.key)
        by_key: defaultdict[str, list[Accepted]] = defaultdict(list)
        for accepted in self.truth.accepted.values():
            if accepted.kept and self._must(fn, accepted):
                by_key[_key(accepted.event) if keyed else ""].append(accepted)
        for key, group in by_key.items():
            latest = max(accepted.stamps()[0] for accepted in group)
            newest = [accepted for accepted in group if accepted.stamps()[1] >= latest]
            if not any(self.by_key.get(run_key(fn, accepted.event.key)) for accepted in newest):
                self.violate(10, "debounce-lost-last", f"{fn.slug} {key}: {newest[0].event.id}")

    def _throttles(self, fn: Function) -> None:
        assert fn.throttle is not None
        params = gcra.throttle(fn.throttle.limit, fn.throttle.period, fn.throttle.burst)
        for key, times in self.truth.starts.items():
            if not key.startswith(f"throttle:{fn.id}"):
                continue
            tat = None
            for at in sorted(times):
                admission = gcra.admit(params, tat, at * 1000)
                if not admission.admitted:
                    self.violate(9, "throttle-exceeded", f"{key}: a start at {at} of {sorted(times)}")
                    break
                tat = admission.tat or tat

    def _crons(self) -> None:
        if not self.world.crons_until:
            return
        for fn, jobs in self.world.stores.cron_items().items():
            if jobs:
                self.violate(6, "cron-items", f"{fn}: {jobs} although it has no schedule any more")
        end = EPOCH + self.world.crons_until
        schedules_of = defaultdict(set)
        for registry in self.truth.registered:
            if registry.begun <= self.world.crons_until:
                for fn in registry.live.values():
                    schedules_of[fn.id] |= {trigger.cron for trigger in fn.triggers if trigger.cron}
        for fn in self.functions.values():
            for schedule in schedules_of[fn.id]:
                ticks = Counter(
                    run.key
                    for s in self.truth.created.values()
                    if (run := s.run).fn == fn.id and run.cron == schedule
                )
                if ticks and max(ticks.values()) > 1:
                    self.violate(6, "cron-twice", f"{fn.slug} {schedule}: {ticks.most_common(1)}")
                at = EPOCH + self.healed + 60_000
                while (at := parse_cron(schedule).next_after(at) or end) < end - 5_000:
                    from inngest.core.timing.times import rfc3339

                    if run_key(fn, f"{schedule}\x1f{rfc3339(at)}") not in ticks and not fn.singleton:
                        self.violate(6, "cron-missed", f"{fn.slug} {schedule} at {at - EPOCH}")

    # -- what is left, and what is shown --

    async def _leftovers(self) -> None:
        if any(each.code in {"not-quiet", "stuck"} for each in self.truth.violations):
            return
        for text in self.world.stores.leftovers():
            self.violate(9, "left-over", text)

    async def _shown(self) -> None:
        data = self.world.stores.data
        for run_id, end in self.truth.ended.items():
            record = await data.run(run_id)
            if record is None:
                self.violate(16, "not-shown", f"{run_id} of {self.truth.created[run_id].run.slug}")
            elif record.status is not end.status:
                self.violate(16, "shown-wrong", f"{run_id}: {record.status}, it is {end.status}")

    async def _letters(self) -> None:
        """What nobody can read is kept aside, and nothing else."""
        for letter in await self.world.stores.letters():
            if letter.body not in self.truth.garbage:
                self.violate(11, "buried", f"{letter.kind} for {letter.group}: {letter.reason}")


def _key(event: Event) -> Any:
    return event.value["data"].get("key")


def _data(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = _decode(run.events[0])["data"]
    return found


def _text(raw: bytes) -> str:
    value = _decode(raw)
    found = value.get("data") if isinstance(value, dict) else None
    return found if isinstance(found, str) else repr(found)
