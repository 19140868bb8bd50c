"""Transitions as the scripts read them, and what the scripts reply.

An effect is ``[tag, when, unless, *arguments]``: the arguments are those of the function of that tag in
``lua/effects_*.lua``. Items, pauses and the unchanging part of a run are opaque bytes to the scripts, beside
which stands what they need of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import msgspec

from inngest.core.model.history import encode_history
from inngest.core.model.runs import CALLS, Item, Kind, Partition, Pause, PauseKind, Run, digest
from inngest.core.model.transition import (
    Admit,
    Adopt,
    Await,
    Begin,
    Collect,
    Complete,
    CreateRun,
    Discover,
    Drop,
    Effect,
    Emit,
    EndRun,
    Enqueue,
    EnqueueFirst,
    Evict,
    ForcePlan,
    Lease,
    Once,
    PutPause,
    Recall,
    Record,
    Remember,
    ResetAttempts,
    Retry,
    SaveStep,
    SetCrons,
    SignalTaken,
    TakeLock,
    TakePause,
    Transition,
    Unclaimed,
)
from inngest.core.policy import MAX_REMEMBERED

encode = msgspec.msgpack.Encoder().encode
_decode_item = msgspec.msgpack.Decoder(Item).decode
_decode_run = msgspec.msgpack.Decoder(Run).decode
_decode_pause = msgspec.msgpack.Decoder(Pause).decode

_KINDS = dict.fromkeys(Kind, "other") | {
    **dict.fromkeys(CALLS, "call"),
    Kind.START: "start",
    Kind.START_TIMEOUT: "timeout",
    Kind.FINISH_TIMEOUT: "timeout",
    Kind.CRON: "cron",
    Kind.EVICT: "evict",
}


def opaque(raw: bytes) -> msgspec.Raw:
    """Bytes in the form of a msgpack string: the server's decoder knows no other."""
    size = len(raw)
    if size < 32:
        head = bytes((0xA0 | size,))
    elif size < 1 << 16:
        head = b"\xda" + size.to_bytes(2, "big")
    else:
        head = b"\xdb" + size.to_bytes(4, "big")
    return msgspec.Raw(head + raw)


def encode_transition(transition: Transition) -> bytes:
    """The argument of ``commit.lua``."""
    lease = transition.lease
    effects = [[*_ENCODERS[type(effect)](effect)] for effect in transition.effects]
    for wire, effect in zip(effects, transition.effects, strict=True):
        wire[1:1] = (effect.when, effect.unless)
    job, epoch = (lease.job, lease.epoch) if lease is not None else ("", 0)
    return encode([transition.fn, transition.run, job, epoch, effects])


def _item(item: Item) -> tuple[Any, ...]:
    kind = _KINDS[item.kind]
    name = item.name if item.kind is Kind.CRON else ""
    return (
        item.job,
        kind,
        item.queue.value,
        item.run,
        item.due,
        item.score,
        item.partition,
        item.queued,
        name,
        opaque(encode(item)),
    )


def capacity(partition: Partition) -> msgspec.Raw:
    """What an item of the partition needs, for ``capacity.lua``; empty for nothing."""
    if not partition.cells and partition.run_cell is None and not partition.throttle:
        return opaque(b"")
    return opaque(encode([partition.cells, partition.run_cell or (), partition.throttle]))


def _partition(partition: Partition | None) -> Any:
    return (partition.id, capacity(partition)) if partition is not None else False


def lock_name(key: str) -> str:
    """The name of a lock: ``lock:<function>`` and ``lock:<function>:<digest>`` get that function's tag."""
    parts = key.split(":", 2)
    tag = parts[1] if len(parts) > 1 else key
    return f"{{{tag}}}:{key}" if key.startswith("lock:") else f"{{{tag}}}:lock:{key}"


def plain_bucket(event: str) -> str:
    """The bucket of the pauses on an event name that have no terms."""
    return f"pauses:{event}"


def paths_name(event: str) -> str:
    """Where the paths of the first terms of an event name's pauses are counted."""
    return f"paths:{event}"


def term_bucket(event: str, path: str, value: str) -> str:
    """The bucket of the pauses on an event name whose first term is ``path == value``."""
    return f"waits:{digest(event, path, value)}"


def _pause(effect: PutPause) -> tuple[Any, ...]:
    pause = effect.pause
    bucket, paths, path = plain_bucket(pause.event), "", ""
    if pause.terms:
        path, value = pause.terms[0]
        bucket, paths = term_bucket(pause.event, path, value), paths_name(pause.event)
    record = (bucket, paths, path, pause.timeout_job, pause.kind is PauseKind.CANCEL)
    return ("pause", pause.id, pause.step, record, effect.exclusive, opaque(encode(pause)))


def _create(effect: CreateRun) -> tuple[Any, ...]:
    run = effect.run
    state = (
        run.revision,
        run.request_version,
        run.force_plan,
        run.started,
        run.size,
        run.stack,
        [opaque(run.steps[step]) for step in run.stack],
        list(run.pending),
    )
    return (
        "create",
        run.id,
        run.key,
        run.created,
        effect.claim,
        opaque(encode(_head(run))),
        _partition(run.start),
        _partition(run.work),
        lock_name(run.lock) if run.lock else "",
        run.priority,
        state,
    )


def _head(run: Run) -> Run:
    return msgspec.structs.replace(
        run,
        request_version=0,
        force_plan=False,
        started=0,
        stack=[],
        steps={},
        pending=set(),
        size=0,
        revision=0,
    )


def _admit(effect: Admit) -> tuple[Any, ...]:
    params = effect.params
    return (
        "admit",
        effect.key,
        params.emission,
        params.tolerance,
    )


def _collect(effect: Collect) -> tuple[Any, ...]:
    item = msgspec.structs.replace(effect.item, payload=b"")
    return (
        "collect",
        effect.key,
        _item(item),
        _partition(effect.partition),
        opaque(effect.event),
        effect.ts,
        effect.last,
        effect.bound,
        effect.max_size,
        effect.max_bytes,
        opaque(effect.item.payload),
    )


_ENCODERS: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    Once: lambda e: ("once", e.key, e.at, e.forget, e.mark),
    Remember: lambda e: ("remember", e.name, opaque(e.event), e.at, e.ttl, MAX_REMEMBERED),
    Recall: lambda e: ("recall", e.names, e.since, _item(e.item)),
    Unclaimed: lambda e: ("unclaimed", e.key),
    Admit: _admit,
    TakeLock: lambda e: ("lock", lock_name(e.key), e.order, _item(e.evict) if e.evict else False),
    CreateRun: _create,
    Collect: _collect,
    Enqueue: lambda e: ("enqueue", _item(e.item), _partition(e.partition)),
    EnqueueFirst: lambda e: ("first", [_item(item) for item in e.items]),
    Drop: lambda e: ("drop", e.job),
    Complete: lambda _: ("complete",),
    Retry: lambda e: ("retry", e.due, e.attempt, False if e.payload is None else opaque(e.payload)),
    ResetAttempts: lambda e: ("reset", e.job, e.epoch, e.ms),
    Begin: lambda e: ("begin", e.at),
    Adopt: lambda e: ("adopt", e.version),
    ForcePlan: lambda _: ("force",),
    SaveStep: lambda e: ("save", e.step, opaque(e.value)),
    Await: lambda e: ("await", e.steps),
    Discover: lambda e: ("discover", _item(e.item), e.item.race, e.planned),
    PutPause: _pause,
    SignalTaken: lambda e: ("signal-taken", plain_bucket(e.name), e.pause, e.step),
    TakePause: lambda e: ("take", e.id),
    Evict: lambda e: ("evict", _item(e.item)),
    EndRun: lambda _: ("end",),
    Emit: lambda e: ("emit", opaque(e.event)),
    Record: lambda e: ("record", opaque(encode_history(e.entry))),
    SetCrons: lambda e: ("crons", [_item(item) for item in e.items], _partition(e.partition), e.version),
}
assert _ENCODERS.keys() == set(get_args(Effect)), "each effect has its form"


# -- replies --


def number(raw: bytes | None) -> int:
    """A count that the server keeps; 0 if there is none, or it is damaged."""
    return int(raw) if raw is not None and raw.lstrip(b"-").isdigit() else 0


def decode_item(reply: list[Any]) -> Item:
    """``item_reply`` of ``items.lua``."""
    item = _decode_item(reply[0])
    item.due, item.score, item.epoch = reply[2], reply[3], reply[5]
    item.partition = reply[4].decode()
    if reply[6] is not None:
        item.attempt = int(reply[6])
    if reply[7] is not None:
        item.payload = reply[7]
    item.run, item.job = reply[1].decode(), reply[8].decode()  # an evicted run's were not known
    return item


def lease_of_reply(reply: list[Any]) -> Lease:
    """The lease of an item that cannot be decoded."""
    return Lease(fn=reply[9].decode(), job=reply[8].decode(), epoch=reply[5])


def decode_run(reply: list[Any]) -> Run:
    """``state_reply`` of ``states.lua``, if it tells more than the revision."""
    run = _decode_run(reply[6])
    run.revision, run.request_version = int(reply[1]), int(reply[2])
    run.force_plan = reply[3] == b"1"
    run.started, run.size = int(reply[4]), int(reply[5])
    run.stack = [step.decode() for step in reply[7]]
    values = dict(zip(reply[8][::2], reply[8][1::2], strict=True))
    run.steps = {step.decode(): values[step] for step in reply[7]}
    if len(values) != len(run.stack) or sum(map(len, values.values())) != run.size:
        raise ValueError("results of steps are lost")
    run.pending = {step.decode() for step in reply[9]}
    return run


def decode_pause(entry: bytes) -> Pause:
    """An entry of a bucket: the run, a line feed, the pause."""
    return _decode_pause(entry[entry.index(b"\n") + 1 :])
