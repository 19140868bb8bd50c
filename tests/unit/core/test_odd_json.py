"""Odd JSON through every door of the core, and then through everything that comes later: it passes whole, or
is refused where it enters.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from engine_rig import NOW, Rig, event, function
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from later_stages import (
    event_goes_through,
    goes_through,
    run_goes_through,
    trace_goes_through,
    transition_goes_through,
)
from odd_json import as_object, garbage, objects, scalars, texts, values

from inngest.core.decisions.advance import advance, cancel
from inngest.core.decisions.checkpoints import checkpoint
from inngest.core.decisions.crons import crons
from inngest.core.decisions.draft import Call
from inngest.core.decisions.meeting import invoke_result
from inngest.core.decisions.moment import Moment
from inngest.core.decisions.schedule import schedule
from inngest.core.decisions.starting import new_run
from inngest.core.errors import InvalidEvent
from inngest.core.model.events import CANCELLED, FINISHED, Event, accept, internal_event, parse_body
from inngest.core.model.functions import (
    App,
    Batch,
    Concurrency,
    Debounce,
    Function,
    RateLimit,
    Singleton,
    Throttle,
    Trigger,
)
from inngest.core.model.runs import Item, Kind, Run, start_job
from inngest.core.model.transition import Record, Transition
from inngest.core.policy import MAX_DEPTH
from inngest.core.sdk.registration import InvalidRegistration, parse_registration
from inngest.core.sdk.responses import Answer, Failure, Op, Reported, Returned, read, read_steps

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
SDK = {"x-inngest-sdk": "js:v4.24.0", "x-inngest-req-version": "2"}
KEY = "event.data.k"
FUNCTIONS = [
    function(
        concurrency=[Concurrency(limit=1, key=KEY)],
        run_concurrency=Concurrency(limit=1, key=KEY),
        throttle=Throttle(limit=1, period=1000, key=KEY),
        rate_limit=RateLimit(limit=1, period=1000, key=KEY),
        singleton=Singleton(mode="skip", key=KEY),
        priority=KEY,
    ),
    function(debounce=Debounce(period=1000, key=KEY)),
    function(batch=Batch(max_size=2, timeout=1000, key=KEY, condition=KEY)),
]


def moment() -> Moment:
    numbers = iter(range(1, 1000))
    return Moment(now=NOW, new_id=lambda: f"id-{next(numbers):04}")


def a_run(given: Event | None = None, **fields: Any) -> tuple[Run, Function, Item]:
    fn = function(**fields)
    run = new_run(fn, [given or event()], moment(), key="key")
    item = Item(
        job=start_job(run.id), kind=Kind.START, fn=fn.id, run=run.id, partition=run.start.id, max_attempts=2
    )
    return run, fn, item


def decided(answer: Answer, run: Run, fn: Function, item: Item) -> list[Event]:
    """What the answer leads to goes through, and so does what it tells of."""
    call = Call(started=NOW, ended=NOW)
    transition = advance(run, fn, item, answer, moment(), call=call)
    told = transition_goes_through(transition)
    trace_goes_through([effect.entry for effect in transition.effects if isinstance(effect, Record)])
    for each in told:
        event_goes_through(each)
        if each.name == FINISHED:
            goes_through(invoke_result(each)[0])
    return told


# -- events --


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    fields = [b'"name":' + draw(st.just(b'"app/go"') | texts)]
    for name, kind in (("data", objects), ("user", objects), ("id", texts), ("v", texts)):
        if draw(st.booleans()):
            fields.append(b'"%b":%b' % (name.encode(), draw(kind)))
    if draw(st.integers(0, 7)) == 0:
        fields.append(b'"ts":' + draw(scalars))
    if draw(st.integers(0, 7)) == 0:
        fields.append(b'"data":' + draw(values))
    if draw(st.integers(0, 7)) == 0:
        sessions = draw(st.sampled_from((b'{"sessions":%b}', b'{"propagated_sessions":%b}', b"%b")))
        fields.append(b'"meta":' + sessions % draw(objects | values))
    body = b"{" + b",".join(fields) + b"}"
    return draw(st.sampled_from((body, b"[" + body + b"]", body, body[:-3])))


@given(bodies())
@CALM
def test_an_event_is_refused_or_goes_through(body: bytes) -> None:
    try:
        accepted = [accept(each, "id", NOW, 1 << 20) for each in parse_body(body)]
    except InvalidEvent:
        return
    for each in accepted:
        event_goes_through(each)
        for fn in FUNCTIONS:
            transition_goes_through(schedule(fn, each, moment()))
        run, fn, item = a_run(each)
        run_goes_through(run, fn, item, moment())
        for told in transition_goes_through(cancel(run, moment())):
            event_goes_through(told)


def test_what_nests_as_deep_as_may_be_goes_through_with_all_that_comes_around_it() -> None:
    data = b'{"k":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH
    (inbound,) = parse_body(b'{"name":"app/go","data":%b,"user":%b}' % (data, data))
    first = accept(inbound, "id", NOW, 1 << 20)
    event_goes_through(first)
    answers = [
        Returned(output=data),
        read(206, SDK, b'[{"id":"a","op":"StepFailed","error":%b}]' % data, NOW),
        read(206, SDK, b'[{"id":"a","op":"StepRun","data":%b,"opts":{"input":[1]}}]' % data, NOW),
        read(500, SDK, b'{"message":"m","cause":%b}' % data, NOW),
        read(206, SDK, b'[{"id":"a","op":"InvokeFunction","opts":{"payload":{"data":%b}}}]' % data, NOW),
    ]
    assert [type(answer) for answer in answers] == [Returned, Reported, Reported, Failure, Reported]
    told = [each for answer in answers for each in decided(answer, *a_run(first))]
    run, fn, item = a_run(first)
    run.stack, run.steps = ["s"], {"s": b'{"data":' + data + b"}"}
    run_goes_through(run, fn, item, moment())
    # Whoever listens to the ends of runs has them around it once more.
    cancelled = transition_goes_through(cancel(run, moment()))
    for each in told + cancelled:
        run, fn, item = a_run(each)
        run_goes_through(run, fn, item, moment())
        for end in transition_goes_through(cancel(run, moment())):
            event_goes_through(end)
            run_goes_through(*a_run(end), moment())


def test_the_cancellations_of_what_cancellations_start_come_to_an_end() -> None:
    told = internal_event("id", CANCELLED, NOW, {"event": {}, "_inngest": {"status": "Cancelled"}})
    run, _, _ = a_run(told, triggers=[Trigger(event=CANCELLED)])
    assert [each.name for each in transition_goes_through(cancel(run, moment()))] == [FINISHED]


# -- answers of applications --

OPS = st.sampled_from([op.value for op in Op])
TEXTS = (
    b'"x"', b'"1h"', b'"2030-01-01T00:00:00Z"', b'"app/go"', b'"inngest/x"',
    b'"event.data.k == async.data.k"',
)  # fmt: skip
KNOWN = (
    b'"event"', b'"if"', b'"timeout"', b'"signal"', b'"conflict"', b'"function_id"', b'"duration"', b'"url"',
    b'"method"', b'"type"', b'"parallelMode"',
)  # fmt: skip
ANY = (b'"input"', b'"body"', b'"headers"', b'"timeout"', b'"more"', b'"type"')
payloads = st.builds(
    lambda *parts: b'{"data":%b,"user":%b,"v":%b,"meta":%b}' % parts,
    objects, objects, texts, st.just(b'{"sessions":{"s":9}}') | objects,
)  # fmt: skip
options = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(KNOWN), st.sampled_from(TEXTS)),
        st.tuples(st.sampled_from(ANY), values),
        st.tuples(st.just(b'"payload"'), payloads),
    ),
    max_size=4,
).map(as_object)
timings = st.builds(lambda a, b: b'{"a":%b,"b":%b}' % (a, b), scalars, scalars)


@st.composite
def ops(draw: st.DrawFn) -> bytes:
    members = [(b'"op"', b'"%b"' % draw(OPS).encode())]
    members.append((b'"id"', draw(st.just(b'"s"') | st.just(b'"t"') | texts)))
    for name, kind in (
        (b'"data"', values), (b'"error"', values | objects), (b'"opts"', options),
        (b'"timing"', timings | scalars), (b'"name"', st.sampled_from(TEXTS) | texts),
        (b'"displayName"', texts),
    ):  # fmt: skip
        if draw(st.booleans()):
            members.append((name, draw(kind)))
    return as_object(members)


reports = st.lists(ops(), min_size=1, max_size=3).map(lambda each: b"[" + b",".join(each) + b"]")


def told_why(failure: Failure) -> str:
    error = msgspec.json.decode(failure.error)
    goes_through(failure.error)
    return str(error["message"])


@given(reports)
@CALM
def test_steps_are_refused_or_go_through(report: bytes) -> None:
    answer = read(206, SDK, report, NOW)
    decided(answer, *a_run())
    if isinstance(answer, Failure):
        assert told_why(answer).startswith(("The SDK reported what cannot be taken", "The SDK answered 206"))


@given(values | garbage, st.sampled_from((200, 201, 204, 400, 500)))
@CALM
def test_what_a_function_returns_is_refused_or_goes_through(body: bytes, status: int) -> None:
    answer = read(status, SDK, body, NOW)
    decided(answer, *a_run())
    if isinstance(answer, Returned):
        goes_through(answer.output)
    if isinstance(answer, Failure):
        assert told_why(answer)


@given(objects, values)
@CALM
def test_the_errors_of_functions_go_through(members: bytes, cause: bytes) -> None:
    for body in (members, b'{"name":"E","message":"m","stack":"s","cause":%b}' % cause):
        answer = read(500, SDK, body, NOW)
        assert isinstance(answer, Failure)
        assert told_why(answer)
        decided(answer, *a_run())


@given(scalars | objects, scalars | objects, values, scalars)
@CALM
def test_streamed_answers_go_through(status: bytes, headers: bytes, body: bytes, more: bytes) -> None:
    text = b'{"status":%b,"headers":%b,"body":%b,"error":null,"noRetry":%b}'
    for stream in (
        text % (status, headers, body, b"true"),
        text % (b"206", b'{"x-inngest-sdk":"x","x-inngest-req-version":%b}' % more, body, more),
        text % (b"200", b'{"x-inngest-sdk":"x"}', body, b"null"),
    ):
        decided(read(201, SDK, stream, NOW), *a_run())


@pytest.mark.parametrize("version", ["9" * 30, "-" + "9" * 30, "9" * 5000, "2147483648", "1e3", "\u0663"])
def test_the_request_version_is_a_small_number(version: str) -> None:
    answer = read(200, {**SDK, "x-inngest-req-version": version}, b"1", NOW)
    assert answer.request_version in {None, 3}
    decided(answer, *a_run())


@given(reports)
@CALM
def test_the_steps_of_a_checkpoint_are_refused_or_go_through(report: bytes) -> None:
    run, _, item = a_run()
    try:
        transition = checkpoint(run, item, read_steps(report), moment(), NOW)
    except ValueError:  # with which the API refuses them
        return
    transition_goes_through(transition)


BIG = b"20000000000000000000"


@pytest.mark.parametrize(
    ("op", "place"),
    [
        (b'"op":"StepRun","data":{"v":[1e400]}', "steps[1].data.v[0]: the number 1e400 is beyond the range"),
        (b'"op":"StepRun","data":"\xff"', "steps[1].data: text that is not UTF-8"),
        (b'"op":"StepFailed","error":{"name":"E","data":%b}' % (b"9" * 400), "[1].error.data: the number 9"),
        (b'"op":"RunComplete","data":{"v":1e400}', "steps[1].data.v: the number"),
        (b'"op":"StepRun","opts":{"input":[1e400]}', "steps[1].opts.input[0]: the number"),
        (b'"op":"StepRun","opts":[]', "steps[1].opts: must be an object"),
        (b'"op":"InvokeFunction","opts":{"function_id":["x"]}', "opts.function_id: must be a string"),
        (b'"op":"InvokeFunction","opts":{"payload":{"data":[1]}}', "opts.payload.data: must be an object"),
        (b'"op":"InvokeFunction","opts":{"payload":{"data":{"v":1e400}}}', "opts.payload.data.v: the number"),
        (
            b'"op":"InvokeFunction","opts":{"payload":{"data":%b}}'
            % (b'{"k":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1)),
            "steps[1].opts.payload.data.k.k.k",
        ),
        (b'"op":"WaitForEvent","opts":{"event":{},"timeout":"1h"}', "opts.event: must be a string"),
        (b'"op":"WaitForEvent","name":"a","opts":{"if":1,"timeout":"1h"}', "opts.if: must be a string"),
        (b'"op":"WaitForEvent","name":"\\u0000signal/x"', "the name of the event holds a control character"),
        (b'"op":"WaitForSignal","opts":{"signal":"%b"}' % (b"x" * 600), "signal's name is longer than 512"),
        (b'"op":"Gateway","opts":{"url":"http://x","headers":["a"]}', "opts.headers: must be an object"),
        (b'"op":"Gateway","opts":{"url":"http://x","headers":{"a":{}}}', "opts.headers.a: must be a string"),
        (b'"op":"StepRun","id":"%b"' % (b"x" * 300), "steps[1].id: must be at most 255 characters"),
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_an_answer_that_cannot_be_taken_is_a_failed_attempt_with_the_place(op: bytes, place: str) -> None:
    answer = read(206, SDK, b'[{"id":"a","op":"StepRun"},{"id":"b",%b}]' % op, NOW)
    assert isinstance(answer, Failure)
    assert not answer.no_retry
    assert place in told_why(answer)


@pytest.mark.parametrize("status", [200, 500])
def test_a_return_value_that_cannot_be_taken_is_a_failed_attempt_with_the_place(status: int) -> None:
    answer = read(status, SDK, b'{"message":"m","cause":{"v":[1e400]}}', NOW)
    assert isinstance(answer, Failure)
    assert "cause.v[0]: the number 1e400 is beyond the range of doubles" in told_why(answer)
    assert not answer.no_retry


async def test_an_integer_beyond_64_bits_in_a_steps_input_is_kept_as_it_is() -> None:
    rig = Rig()
    await rig.start()
    answer = read(206, SDK, b'[{"id":"s","op":"StepRun","opts":{"input":[%b]},"data":%b}]' % (BIG, BIG), NOW)
    await rig.reply(answer)
    entry = next(entry for entry in await rig.history() if entry.step == "s")
    assert entry.info == {"input": "[20000000000000000000]"}
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(entry), type=type(entry)) == entry
    assert (await rig.run()).steps["s"] == b'{"data":20000000000000000000}'


@pytest.mark.parametrize("a", [b"9" * 32, b"-1", b"9223372036854775808", b"1e30"])
def test_a_timing_out_of_bounds_is_none(a: bytes) -> None:
    report = b'[{"id":"s","op":"StepRun","timing":{"a":%b,"b":5},"data":1}]' % a
    answer = read(206, SDK, report, NOW)
    assert isinstance(answer, Reported)
    assert (answer.steps[0].started, answer.steps[0].duration) == (0, 0)


# -- registrations --

FIELDS: tuple[tuple[str, ...], ...] = (
    ("appName",), ("sdk",), ("framework",), ("appVersion",), ("url",), ("functions",), ("extra",),
    ("functions", "0", "id"), ("functions", "0", "name"), ("functions", "0", "retries"),
    ("functions", "0", "triggers"), ("functions", "0", "triggers", "0", "event"),
    ("functions", "0", "triggers", "0", "expression"), ("functions", "0", "steps"),
    ("functions", "0", "steps", "step", "retries", "attempts"),
    ("functions", "0", "steps", "step", "runtime", "url"),
    ("functions", "0", "concurrency"), ("functions", "0", "concurrency", "0", "limit"),
    ("functions", "0", "throttle", "limit"), ("functions", "0", "throttle", "burst"),
    ("functions", "0", "throttle", "period"), ("functions", "0", "rateLimit", "limit"),
    ("functions", "0", "rateLimit", "period"), ("functions", "0", "debounce", "timeout"),
    ("functions", "0", "timeouts", "start"), ("functions", "0", "cancel", "0", "timeout"),
    ("functions", "0", "cancel", "0", "event"), ("functions", "0", "singleton", "key"),
    ("functions", "0", "idempotency"), ("functions", "0", "priority", "run"),
)  # fmt: skip


def registration(path: tuple[str, ...], value: bytes) -> bytes:
    """The text of a registration with a value in one place."""
    step = {"id": "step", "name": "s", "retries": {"attempts": 1}}
    fn: dict[str, Any] = {
        "id": "a", "name": "a", "triggers": [{"event": "go", "expression": "event.data.a == 1"}],
        "steps": {"step": {**step, "runtime": {"type": "http", "url": "http://x/api/inngest"}}},
        "concurrency": [{"limit": 1}], "throttle": {"limit": 1, "period": "1m", "burst": 1},
        "rateLimit": {"limit": 1, "period": "1m"}, "debounce": {"period": "1m", "timeout": "5m"},
        "timeouts": {"start": "1m"}, "cancel": [{"event": "stop", "timeout": "1h"}], "priority": {"run": "1"},
        "singleton": {"mode": "skip", "key": "event.data.a"}, "idempotency": "event.data.a",
    }  # fmt: skip
    body: Any = {"url": "http://x/api/inngest", "appName": "app", "sdk": "js:v4.24.0", "functions": [fn]}
    *way, last = path
    place = body
    for step_name in way:
        place = place[int(step_name)] if isinstance(place, list) else place[step_name]
    place[last] = msgspec.Raw(value)
    return msgspec.json.encode(body)


LENGTHS = st.sampled_from(
    (b'"15000w"', b'"2562047h"', b'"99999999999w"', b'"1ns"', b'"9999-12-31T23:59:59Z"')
)


@given(st.sampled_from(FIELDS), values | LENGTHS)
@CALM
def test_a_registration_is_refused_or_goes_through(path: tuple[str, ...], value: bytes) -> None:
    try:
        found = parse_registration(registration(path, value))
    except InvalidRegistration:
        return
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found.app), type=App) == found.app
    for fn in found.functions:
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(fn), type=Function) == fn
        transition_goes_through(schedule(fn, event("go", {"a": 1}), moment()))
        transition_goes_through(Transition(fn=fn.id, run="", effects=[crons(fn, 1, moment())]))


@pytest.mark.parametrize("limit", [10**30, 2**64, 2**53, -(10**30)])
@pytest.mark.parametrize(
    "path", [path for path in FIELDS if path[-1] in {"limit", "burst"}], ids=lambda path: ".".join(path[2:])
)
def test_a_limit_that_no_store_holds_is_refused(path: tuple[str, ...], limit: int) -> None:
    with pytest.raises(InvalidRegistration, match=f"{path[2]}.*{path[-1]}: must be at (most|least)"):
        parse_registration(registration(path, b"%d" % limit))


@pytest.mark.parametrize("period", ["15000w", "367d"])
def test_a_period_beyond_what_a_throttle_counts_in_is_refused(period: str) -> None:
    path = ("functions", "0", "throttle", "period")
    with pytest.raises(InvalidRegistration, match=r"throttle\.period: must be at most 52w2d, not"):
        parse_registration(registration(path, b'"%b"' % period.encode()))


def test_a_registration_names_the_place_of_what_cannot_be_taken() -> None:
    path = ("functions", "0", "throttle", "limit")
    with pytest.raises(
        InvalidRegistration, match=r"functions\[0\].throttle.limit: the number 1e400 is beyond"
    ):
        parse_registration(registration(path, b"1e400"))
    with pytest.raises(InvalidRegistration, match=r"functions: has 5001 entries"):
        parse_registration(registration(("functions",), b"[" + b",".join([b"{}"] * 5001) + b"]"))
    with pytest.raises(InvalidRegistration, match=r"appName: is longer than 512 characters"):
        parse_registration(registration(("appName",), b'"' + b"x" * 513 + b'"'))
