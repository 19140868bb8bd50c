"""Reading what applications answer, in the forms that SDKs were seen to send (wire protocol sections 3.2,
3.3, 3.6).
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inngest.core.policy import MAX_OPS
from inngest.core.sdk.responses import LAZY, Failure, Op, Reported, Returned, error_object, read, read_steps

NOW = 1_700_000_000_000
SDK = {"x-inngest-sdk": "js:v4.24.0", "x-inngest-req-version": "2"}


def _read(status: int, body: bytes, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read(status, SDK | named, body, NOW)


def _error(failure: Failure) -> dict[str, Any]:
    error: dict[str, Any] = msgspec.json.decode(failure.error)
    assert isinstance(error["error"], str)
    assert isinstance(error["name"], str)
    assert isinstance(error["message"], str)
    return error


# -- the end of a function --


@pytest.mark.parametrize(
    ("body", "output"),
    [
        (b'{"a":1.0}', b'{"a":1.0}'),
        (b" 3 \n", b"3"),
        (b"", b"null"),
        (b"null", b"null"),
        (b'"text"', b'"text"'),
        (b'"{\\"a\\":1}"', b'{"a":1}'),
        (b'"{not json"', b'"{not json"'),
        (b'"[1]"', b'"[1]"'),
        (b"plain text", b'"plain text"'),
        (b"\xff\xfe", '"\ufffd\ufffd"'.encode()),
        (b'{"cut":', b'"{\\"cut\\":"'),
    ],
)
def test_a_return_value(body: bytes, output: bytes) -> None:
    assert _read(200, body) == Returned(output=output, request_version=2)


def test_any_other_success_is_a_return_value() -> None:
    assert _read(204, b"") == Returned(output=b"null", request_version=2)


# -- steps --


def test_steps_of_typescript() -> None:
    body = (
        b'[{"displayName":"p1","op":"StepPlanned","id":"b78f5766","name":"p1","opts":{},"userland":{"id":"p1"},'
        b'"data":null},{"displayName":"ps","op":"Sleep","id":"c67f1ee1","name":"5s","opts":{},'
        b'"userland":{"id":"ps"},"data":null}]'
    )
    answer = _read(206, body)
    assert isinstance(answer, Reported)
    assert [(s.id, s.op, s.label, s.name, s.data) for s in answer.steps] == [
        ("b78f5766", Op.PLANNED, "p1", "p1", b""),
        ("c67f1ee1", Op.SLEEP, "ps", "5s", b""),
    ]
    assert (answer.request_version, answer.no_retry, answer.retry_at) == (2, False, 0)


def test_steps_of_python() -> None:
    body = (
        b'[{"displayName":"s","id":"a0f1","name":"2026-11-23T05:54:48.214Z","op":"Sleep","opts":null,'
        b'"userland":{"id":"s","index":null},"data":null}]'
    )
    (step,) = _read(206, body).steps
    assert (step.op, step.name, step.opts) == (Op.SLEEP, "2026-11-23T05:54:48.214Z", {})


def test_a_single_step_need_not_be_in_a_list() -> None:
    (step,) = _read(206, b'{"id":"e","op":"RunComplete","data":3}').steps
    assert (step.op, step.data) == (Op.COMPLETE, b"3")


def test_errors_and_data_keep_their_bytes() -> None:
    body = (
        b'[{"id":"a","op":"StepFailed","error":{"name":"TypeError", "message":"boom"},'
        b'"timing":{"a":1795413470153000000,"b":5000000},"data":{"x" : 1.0}}]'
    )
    (step,) = _read(206, body).steps
    assert step.error == b'{"name":"TypeError", "message":"boom"}'
    assert step.data == b'{"x" : 1.0}'
    assert (step.started, step.duration) == (1_795_413_470_153, 5)


@pytest.mark.parametrize("timing", ["null", '"soon"', "[]", '{"a":"x"}', "{}", '{"a":1.5}'])
def test_a_timing_that_cannot_be_read_is_none(timing: str) -> None:
    (step,) = _read(206, b'[{"id":"a","op":"StepRun","timing":%b}]' % timing.encode()).steps
    assert (step.started, step.duration) == (0, 0)


@pytest.mark.parametrize("op", list(Op))
def test_every_op_is_read_in_any_case(op: Op) -> None:
    for name in (op.value, op.value.upper(), op.value.title()):
        (step,) = _read(206, b'[{"id":"a","op":"%b"}]' % name.encode()).steps
        assert step.op is op


def test_labels_fall_back() -> None:
    more = (b"", b',"name":"n"', b',"displayName":"d"')
    steps = _read(206, b"[%b]" % b",".join(b'{"id":"a","op":"none"%b}' % fields for fields in more)).steps
    assert [step.label for step in steps] == ["a", "n", "d"]


def test_an_empty_list_is_no_step() -> None:
    assert _read(206, b"[]").steps == []
    (step,) = _read(206, b'[{"op":"None"}]').steps
    assert step.op is Op.NONE


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "without a body"),
        (b"3", "not a list of steps"),
        (b'[{"id":"a","op":"Dance"}]', "unknown op 'Dance' at index 0"),
        (b'[{"op":"StepRun"}]', "op StepRun at index 0 has no id"),
        (b'[{"id":1,"op":"StepRun"}]', "not a list of steps"),
        (b'[{"id":"a","op":"StepRun"', "not a list of steps"),
        (b"[" * 10_000, "not a list of steps"),
        (b"\xff", "not a list of steps"),
    ],
)
def test_steps_that_cannot_be_read_are_a_failure_that_says_why(body: bytes, says: str) -> None:
    answer = _read(206, body)
    assert isinstance(answer, Failure)
    assert says in _error(answer)["message"]
    assert not answer.no_retry


def test_too_many_steps_fail_for_good() -> None:
    op = b'{"id":"a","op":"StepPlanned"}'
    assert isinstance(_read(206, b"[" + b",".join([op] * MAX_OPS) + b"]"), Reported)
    answer = _read(206, b"[" + b",".join([op] * (MAX_OPS + 1)) + b"]")
    assert isinstance(answer, Failure)
    assert answer.no_retry


def test_steps_of_a_checkpoint() -> None:
    (step,) = read_steps(b'[{"id":"a","op":"StepRun","data":1,"rawArgs":[],"mode":"x"}]')
    assert step.op is Op.RUN
    with pytest.raises(ValueError, match="unknown op"):
        read_steps(b'[{"id":"a","op":"Dance"}]')
    with pytest.raises(ValueError, match="Expected `array`"):
        read_steps(b'{"id":"a","op":"StepRun"}')


# -- headers --


@pytest.mark.parametrize(("text", "version"), [("1", 1), ("-1", -1), ("x", None), ("", None)])
def test_the_request_version(text: str, version: int | None) -> None:
    assert _read(206, b"[]", x_inngest_req_version=text).request_version == version


@pytest.mark.parametrize(
    ("text", "no_retry"), [("true", True), ("True", True), ("false", False), ("", False)]
)
def test_no_retry(text: str, no_retry: bool) -> None:
    for status, body in ((206, b"[]"), (500, b"{}"), (400, b"{}")):
        assert _read(status, body, x_inngest_no_retry=text).no_retry is no_retry


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("60", NOW + 60_000),
        ("2023-11-14T22:15:00Z", 1_700_000_100_000),
        ("Tue, 14 Nov 2023 22:15:00 GMT", 1_700_000_100_000),
        ("0", 0),
        ("soon", 0),
    ],
)
def test_retry_after(text: str, at: int) -> None:
    for status, body in ((206, b"[]"), (500, b"{}")):
        assert _read(status, body, retry_after=text).retry_at == at


# -- errors --


def test_errors_of_typescript() -> None:
    body = (
        b'{"name":"NonRetriableError","message":"nope","stack":"s","cause":{"name":"Error","message":"inner",'
        b'"__serialized":true},"__serialized":true}'
    )
    answer = _read(400, body, x_inngest_no_retry="true")
    assert isinstance(answer, Failure)
    assert (answer.no_retry, answer.status) == (True, 400)
    assert _error(answer) == {
        "error": "invalid status code: 400",
        "name": "NonRetriableError",
        "message": "nope",
        "stack": "s",
    }
    assert answer.output == body


@pytest.mark.parametrize(
    ("raw", "name", "message"),
    [
        (b'{"code":"x","message":"nope","name":"E","stack":"Traceback"}', "E", "nope"),
        (b'{"message":"m"}', "Error", "m"),
        (b'{"error":"Could not find step","requestedStep":"x"}', "Error", "Could not find step"),
        (b"{}", "Error", "Function execution error"),
        (b"null", "Error", "Function execution error"),
        (b'"just text"', "Error", "just text"),
        (b"[1,2]", "Error", "[1,2]"),
        (b'{"name":5,"message":"m"}', "Error", "m"),
        (b"not json", "Error", "not json"),
    ],
)
def test_an_error_has_one_shape(raw: bytes, name: str, message: str) -> None:
    error = msgspec.json.decode(error_object(raw))
    assert (error["name"], error["message"]) == (name, message)
    assert isinstance(error["error"], str)


def test_a_plain_error_body() -> None:
    answer = _read(500, b"Internal Server Error")
    assert isinstance(answer, Failure)
    assert _error(answer)["message"] == "Internal Server Error"
    assert not answer.no_retry


@given(st.binary(max_size=60), st.sampled_from([200, 201, 206, 400, 500]))
def test_whatever_comes_is_an_answer(body: bytes, status: int) -> None:
    answer = _read(status, body)
    if isinstance(answer, Returned):
        msgspec.json.decode(answer.output)
    elif isinstance(answer, Failure):
        _error(answer)


# -- not an SDK --


def test_a_success_of_something_else_is_a_failure() -> None:
    answer = read(200, {}, b"<html>", NOW)
    assert isinstance(answer, Failure)
    assert (answer.status, answer.no_retry) == (200, False)
    assert "<html>" in _error(answer)["stack"]


def test_an_error_of_something_else_tells_the_status() -> None:
    answer = read(502, {}, b"bad gateway" + b"x" * 10_000, NOW)
    assert isinstance(answer, Failure)
    assert answer.status == 502
    error = _error(answer)
    assert error["name"] == "Server returned a fatal error"
    assert "HTTP 502" in error["message"]
    assert len(error["stack"]) < 9_000


# -- streams --


def test_a_stream_with_a_string_body() -> None:
    inner = b'"[{\\"id\\":\\"a\\",\\"op\\":\\"StepRun\\"}]"'
    body = b'   \n {"status":206,"headers":{"X-Inngest-SDK":"py"},"body":%b}' % inner
    answer = read(201, {}, body, NOW)
    assert isinstance(answer, Reported)
    assert [step.id for step in answer.steps] == ["a"]


def test_a_stream_of_go() -> None:
    body = (
        b'{"status":500,"headers":{},"body":{"message":"m"},"retryAt":"2023-11-14T22:15:00Z","noRetry":true}'
    )
    answer = read(201, SDK, body, NOW)
    assert isinstance(answer, Failure)
    assert (answer.no_retry, answer.retry_at, answer.status) == (True, 1_700_000_100_000, 500)
    assert _error(answer)["message"] == "m"


def test_the_headers_of_a_stream_come_before_those_around_it() -> None:
    body = b'{"status":200,"headers":{"x-inngest-req-version":1},"body":"{\\"a\\":1}"}'
    assert read(201, SDK, body, NOW) == Returned(output=b'{"a":1}', request_version=1)


@pytest.mark.parametrize(
    "body", [b"", b"   ", b'  {"status":200,"bo', b'{"error":"oops"}', b'{"body":"x"}', b"[]"]
)
def test_a_broken_stream_is_a_failure(body: bytes) -> None:
    answer = read(201, SDK, body, NOW)
    assert isinstance(answer, Failure)
    assert not answer.no_retry
    _error(answer)


def test_a_stream_without_an_sdk_in_it() -> None:
    answer = read(201, {}, b'{"status":200,"headers":{},"body":"1"}', NOW)
    assert isinstance(answer, Failure)
    assert _error(answer)["message"] == "The response did not come from an Inngest SDK"


@pytest.mark.parametrize("stream", [False, True])
def test_half_an_emoji_is_no_reason_to_fail(stream: bool) -> None:
    """As a string that JavaScript or Python cut in the middle of one has it."""

    def answered(status: int, body: bytes) -> Any:
        if not stream:
            return _read(status, body)
        wrapped = {"status": status, "headers": SDK, "body": body.decode()}
        return _read(201, msgspec.json.encode(wrapped))

    assert answered(200, rb'"\ud83d"').output == rb'"\ufffd"'
    reported = answered(206, rb'[{"id":"a","op":"StepRun","data":"x\uD83D"}]')
    assert isinstance(reported, Reported)
    assert reported.steps[0].data == rb'"x\ufffd"'
    error = msgspec.json.decode(answered(500, rb'{"name":"E","message":"\ude00"}').error)
    assert error["message"] == "\ufffd"


@pytest.mark.parametrize("op", ["DeferAdd", "DeferAbort", "deferadd"])
def test_defers_are_read_and_move_nothing(op: str) -> None:
    body = msgspec.json.encode([{"id": "d", "op": op, "opts": {"fn_slug": "app-x", "input": {}}}])
    reported = _read(206, body)
    assert isinstance(reported, Reported)
    assert {step.op for step in reported.steps} <= LAZY


@pytest.mark.parametrize(
    ("status", "after", "seconds"),
    [(429, "4", 4), (503, "7", 7), (502, "4", 0), (429, "soon", 0), (503, "", 0)],
)
def test_a_proxy_may_say_when_to_come_again(status: int, after: str, seconds: int) -> None:
    answer = read(status, {"retry-after": after} if after else {}, b"busy", NOW)
    assert isinstance(answer, Failure)
    assert answer.retry_at == (NOW + seconds * 1000 if seconds else 0)
    assert "before the SDK responded" in _error(answer)["message"]
