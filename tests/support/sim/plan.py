"""What one seed is about: which processes, which functions, which events, and how much goes wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from sim.application import BAD_VALUES, Definition
from sim.faults import Rates
from sim.programs import Draw, Leaf, Program, Seq

MEMORY, SQLITE, REDIS = "memory", "sqlite", "redis"
STORES = (MEMORY, SQLITE, REDIS)

FEATURES = (
    "plain",
    "plain",
    "concurrency",
    "keyed",
    "shared",
    "runs",
    "throttle",
    "rate",
    "idempotency",
    "priority",
    "singleton-skip",
    "singleton-cancel",
    "debounce",
    "batch",
    "cancel",
    "cron",
    "expression",
    "timeouts",
)


@dataclass
class AppFault:
    """How one call of an application goes."""

    there: float = 0.0
    back: float = 0.0
    unreachable: bool = False
    twice: bool = False
    never: bool = False
    cut: bool = False
    garbage: tuple[int, dict[str, str], bytes] | None = None

    @property
    def wrong(self) -> bool:
        return self.unreachable or self.never or self.cut or self.garbage is not None


GARBAGE = (
    (200, {}, b"<html>hello</html>"),
    (206, {"x-inngest-sdk": "x"}, b""),
    (206, {"x-inngest-sdk": "x"}, b'[{"op":"StepRun"}]'),
    (206, {"x-inngest-sdk": "x"}, b'[{"id":"q","op":"Nonsense"}]'),
    (206, {"x-inngest-sdk": "x"}, b'{"id":"q","op":"StepRun","data":'),
    (502, {}, b"bad gateway"),
    (500, {"x-inngest-sdk": "x"}, b"\xff\xfe"),
    (201, {"x-inngest-sdk": "x"}, b"   "),
    (500, {"x-inngest-sdk": "x", "retry-after": "2"}, b'{"message":"later"}'),
)


@dataclass
class AppFates:
    """Draws how calls go. ``chance``: of each thing that can go wrong."""

    random: Random
    chance: float
    slow: float = 0.05
    healed: bool = False
    wrong: int = 0

    def draw(self, host: str) -> AppFault:
        random = self.random
        fault = AppFault(there=random.random() * 0.01, back=random.random() * 0.01)
        if self.healed or host == "elsewhere.test":
            return fault
        if random.random() < self.slow:
            fault.back += random.random() * random.choice((1, 5, 45))
        dice = random.random()
        kinds = ("unreachable", "twice", "never", "cut", "garbage")
        place = int(dice / self.chance) if self.chance else len(kinds)
        if place < len(kinds):
            kind = kinds[place]
            setattr(fault, kind, random.choice(GARBAGE) if kind == "garbage" else True)
            self.wrong += 1
        return fault


@dataclass
class Planned:
    """An event that somebody will send."""

    at: float
    name: str
    data: dict[str, Any]
    external_id: str = ""
    raw: bytes = b""  # the body, where it is none that we would write


@dataclass
class Plan:
    """See above."""

    seed: int
    store: str
    nodes: list[tuple[str, tuple[str, ...], int]] = field(default_factory=list)
    rates: dict[str, Rates] = field(default_factory=dict)
    kills: int = 0
    die: float = 0.0
    stops: int = 0
    restarts: int = 0
    outages: int = 0
    nights: list[float] = field(default_factory=list)
    late: bool = False
    longest: float = 90_000.0
    """Seconds that anything may take."""
    slack: int = 0
    garbage: int = 0
    app_chance: float = 0.0
    app_slow: float = 0.0
    capacity: int = 1000
    active: float = 60.0
    functions: list[tuple[str, Definition]] = field(default_factory=list)  # app, function
    features: dict[str, str] = field(default_factory=dict)  # by slug
    events: list[Planned] = field(default_factory=list)
    syncs: int = 1
    changes: int = 0
    people: dict[str, int] = field(default_factory=dict)

    @property
    def at_once(self) -> bool:
        """On Redis: all round trips of a call are done at once. Else those of several calls meet."""
        return self.seed % 2 == 0


def draw(seed: int, store: str, *, events: int = 0) -> Plan:
    """The plan of a seed. ``events``: how many, 0 for as many as the seed says."""
    random = Random(f"plan {seed}")
    plan = Plan(seed, store)
    if store == REDIS:
        plan.longest = 3_700.0  # a day of signs of life takes minutes there
    _draw_faults(plan, random)
    _draw_nodes(plan, random)
    _draw_functions(plan, random)
    _draw_events(plan, random, events or random.choice((5, 20, 40, 60)))
    return plan


def _draw_faults(plan: Plan, random: Random) -> None:
    calm = random.random() < 0.1
    for system in ("engine", "stream", "data"):
        rates = Rates(slow=random.choice((0.1, 0.5)), delay=random.choice((0.005, 0.05, 0.5)))
        if not calm:
            rates.fail = random.choice((0, 0.01, 0.05))
            rates.lost = random.choice((0, 0.01, 0.05))
        plan.rates[system] = rates
    plan.active = random.choice((20.0, 60.0, 120.0))
    plan.app_slow = random.choice((0.0, 0.05, 0.2))
    plan.slack = random.choice((0, 1, 5, 50))
    plan.capacity = random.choice((1, 3, 1000, 1000))
    if calm:
        return
    plan.kills = random.choice((0, 1, 3, 8))
    plan.die = random.choice((0.0, 0.0005, 0.003))
    plan.stops = random.choice((0, 1, 3, 6))
    plan.restarts = random.choice((0, 0, 1, 2))
    plan.outages = random.choice((0, 0, 1, 2))
    plan.app_chance = random.choice((0.0, 0.005, 0.03))
    plan.late = random.random() < 0.5
    if random.random() < 0.1:
        seconds = random.choice((600.0, 3_700.0, 90_000.0))
        plan.nights = [min(seconds, plan.longest)]
    plan.garbage = random.choice((0, 0, 2))
    if Random(f"slow {plan.seed}").random() < 0.1:
        # Work is given to others while those who have it stand still, and then both end it.
        plan.app_slow, plan.stops = 0.9, 10


def _draw_nodes(plan: Plan, random: Random) -> None:
    def skew() -> int:
        if random.random() < 0.5:
            return 0
        return random.choice((-180_000, -40_000, -1_500, 1_500, 40_000, 180_000))

    if plan.store == SQLITE:
        plan.nodes.append(("all", ("event-api", "core-api", "runner", "executor"), 0))
        return
    if random.random() < 0.15:
        plan.nodes.append(("all", ("event-api", "core-api", "runner", "executor"), skew()))
        return
    for service, most in (("event-api", 2), ("core-api", 2), ("runner", 3), ("executor", 3)):
        for number in range(random.randint(1, most)):
            plan.nodes.append((f"{service}-{number}", (service,), skew()))


CHILD = Program(body=Seq((Leaf("c1"),)), retries=2)


def _draw_functions(plan: Plan, random: Random) -> None:
    ops = ["run"] * 5 + ["sleep", "sleep", "wait", "wait", "invoke", "invoke", "signal", "fetch"]
    child_slug = "one-child"
    drawing = Draw(random, targets=[child_slug], ops=ops)
    child = Definition(child_slug, CHILD, {"triggers": [{"event": "sim/child"}]})
    plan.functions.append(("one", child))
    plan.features[child_slug] = "child"
    bad = 0.4 if random.random() < 0.3 else 0.0
    for number in range(random.randint(1, 4)):
        feature = random.choice(FEATURES)
        app = random.choice(("one", "one", "two"))
        slug = f"{app}-{feature}-{number}"
        config: dict[str, Any] = {"triggers": [{"event": f"sim/{number}"}]}
        most = 4
        if feature in {"debounce", "batch", "rate", "cron", "throttle"}:
            most = 2
        _configure(config, feature, random)
        plan.functions.append((app, Definition(slug, drawing.program(most=most), config, bad=bad)))
        plan.features[slug] = feature


def _configure(config: dict[str, Any], feature: str, random: Random) -> None:
    match feature:
        case "concurrency":
            config["concurrency"] = [{"limit": random.choice((1, 2, 5))}]
        case "keyed":
            config["concurrency"] = [{"limit": random.choice((1, 2)), "key": "event.data.key"}]
        case "shared":
            config["concurrency"] = [
                {
                    "limit": random.choice((1, 2)),
                    "key": '"shared"',
                    "scope": random.choice(("env", "account")),
                }
            ]
        case "runs":
            config["concurrency"] = {
                "fn": [{"limit": random.choice((1, 2)), **random.choice(({}, {"key": "event.data.key"}))}],
                "step": [{"limit": 5}],
            }
        case "throttle":
            config["throttle"] = {
                "limit": random.choice((1, 3)),
                "period": random.choice(("1s", "5s")),
                "burst": random.choice((0, 2)),
                **random.choice(({}, {"key": "event.data.key"})),
            }
        case "rate":
            config["rateLimit"] = {
                "limit": random.choice((1, 20)),
                "period": random.choice(("5s", "30s")),
                **random.choice(({}, {"key": "event.data.key"})),
            }
        case "idempotency":
            config["idempotency"] = "event.data.key"
        case "priority":
            config["priority"] = {"run": "event.data.n % 2 == 0 ? 100 : -100"}
            config["concurrency"] = [{"limit": 2}]
        case "singleton-skip" | "singleton-cancel":
            config["singleton"] = {
                "mode": feature.removeprefix("singleton-"),
                **random.choice(({}, {"key": "event.data.key"})),
            }
        case "debounce":
            config["debounce"] = {
                "period": random.choice(("1s", "5s")),
                **random.choice(({}, {"key": "event.data.key"})),
                **random.choice(({}, {"timeout": "10s"})),
            }
        case "batch":
            config["batchEvents"] = {
                "maxSize": random.choice((2, 5)),
                "timeout": random.choice(("2s", "10s")),
                **random.choice(({}, {"key": "event.data.key"})),
            }
        case "cancel":
            config["cancel"] = [
                {
                    "event": "sim/cancel",
                    **random.choice(({"if": "event.data.key == async.data.key"}, {})),
                    **random.choice(({}, {"timeout": "30s"})),
                }
            ]
        case "cron":
            config["triggers"].append({"cron": random.choice(("* * * * *", "*/2 * * * *"))})
        case "expression":
            config["triggers"][0]["expression"] = "event.data.n % 2 == 0"
        case "timeouts":
            config["timeouts"] = {
                "start": random.choice(("5s", "60s")),
                "finish": random.choice(("10s", "60s")),
            }


def _draw_events(plan: Plan, random: Random, count: int) -> None:
    names = sorted(
        {
            trigger["event"]
            for _, fn in plan.functions
            for trigger in fn.config["triggers"]
            if "event" in trigger
        }
    )
    cancels = any("cancel" in fn.config for _, fn in plan.functions)
    keys = ["a", "b", "c"][: random.randint(1, 3)]
    burst = random.random() < 0.3
    for number in range(count):
        at = random.random() * plan.active * 0.9
        if burst:
            at = round(at / 10) * 10 + random.random() * 0.2
        name = random.choice(names)
        if cancels and random.random() < 0.2:
            name = "sim/cancel"
        data = {"n": number, "key": random.choice(keys)}
        plan.events.append(Planned(at, name, data, external_id=f"x{number}" if random.random() < 0.2 else ""))
    if any(fn.bad for _, fn in plan.functions):
        for event in random.sample(plan.events, len(plan.events) // 5):
            data = b'{"n":1,"key":"a","extra":' + random.choice(BAD_VALUES) + b"}"
            event.raw = b'{"name":"' + event.name.encode() + b'","data":' + data + b"}"
            event.external_id = ""
    _draw_streams(plan, names)
    plan.events.sort(key=lambda event: event.at)
    plan.syncs = random.choice((1, 1, 3))
    plan.changes = random.choice((0, 0, 1, 2))
    plan.people = {
        "cancel": random.choice((0, 0, 2)),
        "bulk": random.choice((0, 0, 1)),
        "rerun": random.choice((0, 0, 2)),
    }


def _draw_streams(plan: Plan, names: list[str]) -> None:
    """Events that come one after the other, so that some come while what was gathered is worked on."""
    random = Random(f"streams {plan.seed}")
    gathering = {
        trigger["event"]
        for _, fn in plan.functions
        for trigger in fn.config["triggers"]
        if "event" in trigger and plan.features[fn.slug] in {"batch", "debounce"}
    }
    number = 10_000
    for name in names:
        if name in gathering and random.random() < 0.4:
            at, rest = random.random() * plan.active / 2, random.choice((0.05, 0.3, 1.1))
            for _ in range(30):
                plan.events.append(Planned(at, name, {"n": number, "key": "a"}))
                at, number = at + rest * random.random() * 2, number + 1
