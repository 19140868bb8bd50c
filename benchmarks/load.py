"""Measures a whole server from outside: what it accepts, how soon it calls, what it costs.

The server is a real process, on this machine only; the application that it calls and the sender of events are
processes of their own, and cheap. Each scenario has a fresh server, a bounded amount of work, and an end.
CPU is that of the server's process alone. On a machine of two cores the server has one for itself.

    python benchmarks/load.py
    python benchmarks/load.py --setup sqlite --scenario steps --json after.json --compare before.json
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from harness.report import Results, machine, read
from harness.scenarios import SCENARIOS, Bench, Scale
from harness.server import SETUPS


def main() -> int:
    options = _options()
    scale = Scale(
        runs=options.runs,
        events=options.events,
        samples=options.samples,
        few=options.few,
        many=options.many,
        idle_seconds=options.idle_seconds,
        pace=options.pace,
    )
    results = Results(earlier=read(options.compare) if options.compare else {})
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    for setup in options.setup or ["memory"]:
        if setup == "redis" and shutil.which("redis-server") is None:
            print("redis: there is no redis-server here", file=sys.stderr)
            return 1
        for name in options.scenario or SCENARIOS:
            profile = options.profile / f"{setup}-{name}.prof" if options.profile else None
            with Bench(setup, name, scale, results, profile=profile, temporary=options.temporary) as bench:
                SCENARIOS[name](bench)
    if options.json:
        results.write(options.json)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="\n".join(
            [
                "setups:",
                *(f"  {name:<10}{what}" for name, what in SETUPS.items()),
                "",
                "scenarios:",
                *(f"  {name:<10}{scenario.__doc__}" for name, scenario in SCENARIOS.items()),
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = Scale()
    add = parser.add_argument
    add("--setup", action="append", choices=SETUPS, help="repeatable; default: memory")
    add("--scenario", action="append", choices=SCENARIOS, help="repeatable; default: all of them")
    add("--runs", type=_count, default=default.runs, help="runs in a burst (%(default)s)")
    add("--events", type=_count, default=default.events, help="events to be accepted (%(default)s)")
    add("--samples", type=_count, default=default.samples, help="runs one at a time (%(default)s)")
    add("--few", type=_count, default=default.few, help="runs queued, at first (%(default)s)")
    add("--many", type=_count, default=default.many, help="runs queued, then (%(default)s)")
    add("--idle-seconds", type=float, default=default.idle_seconds, help="of watching (%(default)s)")
    add("--pace", type=float, default=0.0, help="runs/s of the load for latencies (half of what it can do)")
    add("--json", type=Path, metavar="FILE", help="write the results")
    add("--compare", type=Path, metavar="FILE", help="show the ratio to the results in this file")
    add("--profile", type=Path, metavar="DIR", help="run the server under cProfile; a file a scenario")
    add("--temporary", type=Path, metavar="DIR", help="where servers keep their files, for a choice of disk")
    return parser.parse_args()


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return count


if __name__ == "__main__":
    sys.exit(main())
