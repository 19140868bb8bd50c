"""How v1 shows events, runs and the rest (wire protocol section 6.3)."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from inngest.api.answers import optional_time
from inngest.core.model.cancellations import Cancellation
from inngest.core.model.events import Event
from inngest.core.model.functions import Function, Trigger
from inngest.core.model.records import RunRecord
from inngest.core.model.runs import Item
from inngest.core.timing.times import rfc3339

ACCOUNT = "00000000-0000-4000-a000-000000000000"
ENVIRONMENT = "00000000-0000-4000-b000-000000000000"
"""A server of one's own is one account with one environment."""


def event_view(event: Event) -> dict[str, Any]:
    return {
        "internal_id": event.id,
        "account_id": ACCOUNT,
        "environment_id": ENVIRONMENT,
        "source": "",
        "source_id": None,
        "received_at": rfc3339(event.received),
        "id": event.key,
        "name": event.name,
        "data": event.data,
        "user": event.user,
        "ts": event.ts,
        "v": event.v,
    }


def run_view(record: RunRecord) -> dict[str, Any]:
    view: dict[str, Any] = {
        "run_id": record.id,
        "run_started_at": rfc3339(record.started or record.queued),
        "function_id": record.fn,
        "function_version": record.version,
        "environment_id": ENVIRONMENT,
        "event_id": record.events[0] if record.events else "",
        "status": record.status.value,
        "ended_at": optional_time(record.ended),
        "output": Raw(record.output) if record.output is not None else None,
    }
    if record.batch:
        view["batch_id"] = record.batch
    if record.original:
        view["original_run_id"] = record.original
    if record.cron:
        view["cron"] = record.cron
    return view


def listed_run_view(record: RunRecord, error: dict[str, Any] | None) -> dict[str, Any]:
    """Without the output, which may be megabytes; ``error`` is the beginning of that of a failed run."""
    view = run_view(record)
    del view["output"]
    view["function_slug"] = record.slug
    view["app"] = record.app
    view["queued_at"] = rfc3339(record.queued)
    view["run_started_at"] = optional_time(record.started)
    view["error"] = error
    if record.reason:
        view["skip_reason"] = record.reason
    return view


def job_view(item: Item, position: int) -> dict[str, Any]:
    return {
        "id": item.job,
        "at": rfc3339(item.due),
        "position": position,
        "kind": item.kind.value,
        "attempt": item.attempt,
        "max_attempts": item.max_attempts,
        "step_id": item.target or None,
        "step_name": item.name or None,
    }


def function_view(fn: Function) -> dict[str, Any]:
    return {
        "id": fn.id,
        "slug": fn.slug,
        "name": fn.name,
        "app_id": fn.app_id,
        "version": fn.version,
        "triggers": [trigger_view(trigger) for trigger in fn.triggers],
        "url": fn.url,
        "is_paused": fn.paused,
    }


def trigger_view(trigger: Trigger) -> dict[str, Any]:
    if trigger.cron:
        return {"cron": trigger.cron}
    if trigger.expression:
        return {"event": trigger.event, "expression": trigger.expression}
    return {"event": trigger.event}


def cancellation_view(cancellation: Cancellation) -> dict[str, Any]:
    view: dict[str, Any] = {
        "created_at": rfc3339(cancellation.created),
        "name": None,
        "id": cancellation.id,
        "account_id": ACCOUNT,
        "environment_id": ENVIRONMENT,
        "app_id": cancellation.app_id,
        "function_internal_id": cancellation.fn,
        "function_id": cancellation.slug,
        "started_after": optional_time(cancellation.started_after),
        "started_before": rfc3339(cancellation.started_before),
        "kind": "run",
        "cause": "api",
        "queue_name": None,
    }
    if cancellation.condition:
        view["if"] = cancellation.condition
    return view
