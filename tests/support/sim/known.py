"""What the engine is known not to bear yet. Each line goes when its fault is mended.

Nothing here hides a fault: what is tolerated is counted and shown with every run of the simulation, and
``--all-faults`` leaves out and tolerates nothing.
"""

from __future__ import annotations

LEFT_OUT = {
    "skew": "clocks of processes that differ: time belongs to the workers, not to the store",
    "late": "redelivery after more than half an hour: what an event did is remembered for minutes",
    "bad": "JSON that a store cannot hold, as step results",
}
"""Things that go wrong, and that plans leave out."""

TOLERATED = {
    "cancel-missed": "an event that cancels is processed before what it cancels is there",
    "newest-skipped": "which of two singletons survives depends on who is quicker",
    "skipped-and-run": "a skipped event that is delivered again finds the lock free",
    "wait-missed": "an event that was accepted in time is processed after its wait has expired",
}
"""Codes of violations that do not fail a seed."""
