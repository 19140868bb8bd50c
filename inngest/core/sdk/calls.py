"""The request with which a function is called (wire protocol section 3.1)."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote

from msgspec import Struct
from msgspec.json import Encoder

from inngest.core.model.functions import Function
from inngest.core.model.runs import Item, Kind, Run
from inngest.core.policy import MAX_STATE_SENT

DISCOVERY = "step"

_encode = Encoder().encode


class Dispatched(Struct, frozen=True):
    """What a `dispatch_id` tells. ``job`` is empty if it was none; ``at`` is 0 if it does not tell."""

    job: str = ""
    epoch: int = 0
    at: int = 0


def dispatch_id(item: Item, at: int) -> str:
    """What an SDK gives back with the steps that it reports while its call goes on: the item and its lease,
    since not every SDK gives back the generation; and when, by our clock, the call was made.
    """
    return f"{at}@{item.job}@{item.epoch}"


def dispatched(dispatch: str) -> Dispatched:
    """Read a `dispatch_id`, also one of an older release, which does not tell the time."""
    at, _, rest = dispatch.partition("@")
    if not _is_number(at):
        at, rest = "0", dispatch
    job, _, epoch = rest.rpartition("@")
    return Dispatched(job, int(epoch), int(at)) if job and _is_number(epoch) else Dispatched()


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 16


class CallRequest(Struct, gc=False):
    url: str
    body: bytes
    step: str  # the value of ``stepId``


def call_request(run: Run, fn: Function, item: Item, request_id: str, at: int) -> CallRequest:
    """The URL and the JSON body of the call for ``item``, made at ``at``. Keys are sorted; numbers are as
    they came.
    """
    step = item.target if item.kind is Kind.PLAN else DISCOVERY
    return CallRequest(url=step_url(fn.url, step), body=_body(run, fn, item, request_id, at), step=step)


@lru_cache(maxsize=4096)
def step_url(url: str, step: str) -> str:
    """``url`` with its ``stepId`` set, all else as it was registered."""
    base, _, fragment = url.partition("#")
    path, _, query = base.partition("?")
    kept = [pair for pair in query.split("&") if pair and pair.partition("=")[0] != "stepId"]
    kept.append(f"stepId={quote(step, safe='')}")
    return f"{path}?{'&'.join(kept)}" + (f"#{fragment}" if fragment else "")


def _body(run: Run, fn: Function, item: Item, request_id: str, at: int) -> bytes:
    events = b",".join(run.events)
    steps = b",".join([b'"%b":%b' % (_key(step), run.steps[step]) for step in run.stack])
    large = len(run.events[0]) + len(events) + len(steps) > MAX_STATE_SENT and not fn.whole_state
    if large:
        events, steps = b"", b""
    use_api = b"true" if large else b"false"
    current = run.stack.index(item.outgoing) + 1 if item.outgoing in run.steps else 0
    job = _encode(item.job)
    dispatch = _encode(dispatch_id(item, at))
    return b"".join(
        (
            b'{"ctx":{"attempt":%d' % item.attempt,
            b',"disable_immediate_execution":',
            b"true" if run.force_plan else b"false",
            b',"env":"","fn_id":"',
            run.fn.encode(),
            b'","generation_id":%d,"job_id":' % item.epoch,
            job,
            b',"max_attempts":%d,"qi_id":' % item.max_attempts,
            dispatch,
            b',"request_id":"',
            request_id.encode(),
            b'","run_id":"',
            run.id.encode(),
            b'","stack":{"current":%d,"stack":' % current,
            _encode(run.stack),
            b'},"step_id":"step","use_api":',
            use_api,
            b'},"defers":{},"event":',
            run.events[0],
            b',"events":[',
            events,
            b'],"steps":{',
            steps,
            b'},"use_api":',
            use_api,
            b',"version":%d}' % run.request_version,
        )
    )


def _key(step: str) -> bytes:
    return _encode(step)[1:-1]
