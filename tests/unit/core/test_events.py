"""Accepting events, and the form in which functions see them (wire protocol sections 2.1 to 2.3)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inngest.core.errors import InvalidEvent
from inngest.core.model.events import (
    INVOKED,
    TS_MAX,
    TS_MIN,
    Event,
    accept,
    decode_event,
    internal_event,
    parse_body,
)
from inngest.core.policy import MAX_EVENTS

NOW = 1_700_000_000_000
SIZE = 1_000_000


def _accept(body: bytes | dict[str, Any], *, size: int = SIZE, internal: bool = False) -> Event:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    (inbound,) = parse_body(raw)
    return accept(inbound, "01INTERNAL", NOW, size, internal=internal)


def _refused(body: bytes | dict[str, Any], **fields: Any) -> str:
    with pytest.raises(InvalidEvent) as refused:
        _accept(body, **fields)
    return str(refused.value)


# -- bodies --


def test_one_event_or_a_list() -> None:
    assert len(parse_body(b' \n{"name":"a"}')) == 1
    assert len(parse_body(b'[{"name":"a"},{"name":"b"}]')) == 2
    assert parse_body(b"[]") == []


@pytest.mark.parametrize("body", [b"", b"   ", b"3", b'"x"', b"null", b"name=a", b"\xff"])
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidEvent, match="must contain an event object or an array of event objects"):
        parse_body(body)


@pytest.mark.parametrize("body", [b'[{"name":"a"}', b"[" * 100_000, b'[{"name":"a"},]', b"[\xff]"])
def test_a_list_that_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidEvent, match="not valid JSON"):
        parse_body(body)


def test_a_list_has_a_limit() -> None:
    assert len(parse_body(b"[" + b",".join([b"{}"] * MAX_EVENTS) + b"]")) == MAX_EVENTS
    with pytest.raises(InvalidEvent, match="Cannot have more than 5000 events in a batch"):
        parse_body(b"[" + b",".join([b"{}"] * (MAX_EVENTS + 1)) + b"]")


def test_events_before_a_bad_one_are_good() -> None:
    good, bad, after = parse_body(b'[{"name":"a"},{"name":5},{"name":"b"}]')
    assert accept(good, "i", NOW, SIZE).name == "a"
    with pytest.raises(InvalidEvent, match="Event is not valid"):
        accept(bad, "i", NOW, SIZE)
    assert accept(after, "i", NOW, SIZE).name == "b"


@pytest.mark.parametrize(
    "body", [b'{"name":"a"', b'{"name":1}', b'{"name":"a","ts":"now"}', b'{"name":"a\xff"}']
)
def test_one_event_that_cannot_be_read(body: bytes) -> None:
    assert _refused(body).startswith("Event is not valid")


# -- fields --


def test_the_least_event() -> None:
    event = _accept(b'{"name":"a"}')
    assert (event.id, event.name, event.ts, event.received) == ("01INTERNAL", "a", NOW, NOW)
    assert event.value == {"data": {}, "id": "01INTERNAL", "name": "a", "ts": NOW, "user": {}}


def test_what_is_sent_comes_through_to_the_byte() -> None:
    data, user = b'{"b" : 1.0, "a":"\\u00e9"}', b'{"x":1}'
    event = _accept(b'{"name":"a","data":%b,"user":%b,"id":"mine","v":"1","ts":1600000000000}' % (data, user))
    seen = b'{"data":%b,"id":"mine","name":"a","ts":1600000000000,"user":%b,"v":"1"}' % (data, user)
    assert event.payload == seen
    assert (event.external_id, event.key) == ("mine", "mine")


def test_unknown_fields_are_dropped() -> None:
    assert "more" not in _accept(b'{"name":"a","more":1}').value


@pytest.mark.parametrize("body", [b"{}", b'{"name":""}', b'{"name":null}'])
def test_a_name_is_needed(body: bytes) -> None:
    assert _refused(body) == "event name is empty"


def test_a_name_has_a_limit() -> None:
    assert _accept({"name": "a" * 256}).name == "a" * 256
    assert "longer than 256" in _refused({"name": "a" * 257})


@pytest.mark.parametrize("name", ["inngest/x", "INNGEST/x", "Inngest/function.failed"])
def test_reserved_names(name: str) -> None:
    assert _refused({"name": name}) == f"event name is reserved for internal use: {name}"
    assert _accept({"name": name}, internal=True).name == name


def test_names_that_only_look_reserved() -> None:
    assert _accept({"name": "inngest.x"}).name == "inngest.x"
    assert _accept({"name": "my/inngest/x"}).name == "my/inngest/x"


@pytest.mark.parametrize("field", ["data", "user"])
@pytest.mark.parametrize("value", [1, "x", [], True])
def test_objects_must_be_objects(field: str, value: Any) -> None:
    assert _refused({"name": "a", field: value}) == f"event {field} must be an object"


@pytest.mark.parametrize("field", ["data", "user"])
def test_null_is_an_empty_object(field: str) -> None:
    assert _accept({"name": "a", field: None}).value[field] == {}


def test_the_size_of_data_has_a_limit() -> None:
    body = {"name": "a", "data": {"x": "y" * 100}}
    size = len(msgspec.json.encode(body["data"]))
    assert _accept(body, size=size).name == "a"
    assert "over the max size" in _refused(body, size=size - 1)


def test_the_deprecated_user_counts_too() -> None:
    body = {"name": "a", "data": {"x": 1}, "user": {"y": "z" * 100}}
    size = len(msgspec.json.encode(body["data"])) + len(msgspec.json.encode(body["user"]))
    assert _accept(body, size=size).name == "a"
    assert "over the max size" in _refused(body, size=size - 1)


@pytest.mark.parametrize("field", ["data", "user"])
@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"1e999", "beyond the range of doubles"),
        (b"-1E+400", "beyond the range of doubles"),
        (b"1" + b"0" * 309, "beyond the range of doubles"),
        (b"1" + b"0" * 250 + b"e99", "beyond the range of doubles"),
        (b'"\xff"', "utf-8"),
        (b'{"\xc3":1}', "utf-8"),
    ],
    ids=lambda value: repr(value)[:12],
)
def test_what_nobody_could_read_later_is_refused(field: str, value: bytes, says: str) -> None:
    said = _refused(b'{"name":"a","%b":{"deep":[%b]}}' % (field.encode(), value))
    assert said.startswith(f"event {field} is not valid: ")
    assert says in said


@pytest.mark.parametrize(
    "value", [b"1e308", b"1E-999", b"0e999", b'"1e999"', b'"%b"' % (b"7" * 400), b"9" * 300, '"ü€"'.encode()]
)
def test_what_only_looks_so_is_kept(value: bytes) -> None:
    event = _accept(b'{"name":"a","data":{"x":%b}}' % value)
    assert b'{"x":%b}' % value in event.payload
    assert event.value["data"] == {"x": msgspec.json.decode(value)}


def test_half_an_emoji_is_replaced() -> None:
    """As a string that JavaScript cut in the middle of one has it."""
    for body in (rb'{"name":"a","data":{"x":"\ud83d"}}', rb'[{"name":"a","data":{"x":"\ud83d"}}]'):
        assert _accept(body).value["data"] == {"x": "\ufffd"}


@pytest.mark.parametrize("body", [b'{"name":"a"}\n{"name":"b"}', b'[{"name":"a"}]\n[{"name":"b"}]'])
def test_lines_of_events_are_refused_rather_than_half_taken(body: bytes) -> None:
    with pytest.raises(InvalidEvent, match="trailing characters"):
        accept(parse_body(body)[0], "i", NOW, SIZE)


@pytest.mark.parametrize("key", [b'"_inngest"', b'"\\u005finngest"', b'"_inn\\u0067est"'])
def test_nobody_outside_sets_internal_data(key: bytes) -> None:
    event = _accept(b'{"name":"a","data":{%b:{"fn_id":"x"},"kept" : {"b":1.0}}}' % key)
    assert event.value["data"] == {"kept": {"b": 1}}
    assert b'{"b":1.0}' in event.payload


def test_internal_names_deeper_in_the_data_are_the_users_own() -> None:
    event = _accept(b'{"name":"a","data":{"_inngest":1,"kept":{"_inngest":1}}}')
    assert event.value["data"] == {"kept": {"_inngest": 1}}


def test_internal_data_of_our_own_is_kept() -> None:
    event = _accept({"name": INVOKED, "data": {"_inngest": {"fn_id": "x"}}}, internal=True)
    assert event.meta == {"fn_id": "x"}


@pytest.mark.parametrize("data", [{}, {"_inngest": 1}, {"_inngest": None}])
def test_internal_data_may_be_missing(data: dict[str, Any]) -> None:
    assert internal_event("i", INVOKED, NOW, data).meta == {}
    assert Event(id="i", name="user/event", ts=NOW, received=NOW).meta == {}


# -- times --


@pytest.mark.parametrize(
    ("ts", "taken"), [(0, NOW), (None, NOW), (TS_MIN, TS_MIN), (TS_MAX, TS_MAX), (1.6e12, 1_600_000_000_000)]
)
def test_times(ts: float | None, taken: int) -> None:
    event = _accept({"name": "a", "ts": ts})
    assert event.ts == taken
    assert isinstance(event.ts, int)


@pytest.mark.parametrize("ts", [1, -5, TS_MIN - 1, TS_MAX + 1, 1_600_000_000, 1.6e300])
def test_times_out_of_bounds(ts: float) -> None:
    assert "between 1980-01-01 and 2100-01-01" in _refused({"name": "a", "ts": ts})


def test_times_are_whole() -> None:
    assert "must be an integer of milliseconds" in _refused({"name": "a", "ts": 1.6e12 + 0.5})


# -- sessions --


def _sessions(meta: Any) -> Any:
    return _accept({"name": "a", "meta": meta}).value.get("meta")


@pytest.mark.parametrize(
    ("meta", "merged"),
    [
        ({"sessions": {"chat": "1"}}, {"chat": "1"}),
        ({"sessions": {"chat": 7, "x": 1.5, "y": 2.0}}, {"chat": "7", "x": "1.5", "y": "2"}),
        (
            {"propagated_sessions": {"a": "1", "b": "2"}, "sessions": {"b": "3", "c": "4"}},
            {"a": "1", "b": "3", "c": "4"},
        ),
        ({"propagated_sessions": {"a": "1", "b": "2"}, "sessions": {"a": None}}, {"b": "2"}),
        ({"propagated_sessions": {"a": "1"}}, {"a": "1"}),
    ],
)
def test_sessions(meta: Any, merged: dict[str, str]) -> None:
    assert _sessions(meta) == {"sessions": merged}


@pytest.mark.parametrize(
    "meta", [None, {}, {"sessions": {}}, {"propagated_sessions": {"a": "1"}, "sessions": None}]
)
def test_no_sessions(meta: Any) -> None:
    assert _sessions(meta) is None


@pytest.mark.parametrize(
    ("meta", "says"),
    [
        ({"sessions": {str(n): "x" for n in range(6)}}, "more than 5 sessions"),
        ({"sessions": {"k" * 129: "x"}}, "longer than 128 bytes"),
        ({"sessions": {"k": "x" * 513}}, "longer than 512 bytes"),
        ({"sessions": {"k": []}}, "meta is not valid"),
        ("x", "meta is not valid"),
    ],
)
def test_sessions_that_are_refused(meta: Any, says: str) -> None:
    assert says in _refused({"name": "a", "meta": meta})


# -- on the stream --

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    name=st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=20).filter(
        lambda name: not name.lower().startswith("inngest/")
    ),
    data=st.dictionaries(st.text().filter(lambda key: key != "_inngest"), _JSON, max_size=4),
    id_=st.none() | st.text(max_size=9),
    v=st.none() | st.text(max_size=5),
)
def test_an_event_survives_the_stream(name: str, data: Any, id_: str | None, v: str | None) -> None:
    event = _accept({"name": name, "data": data, "id": id_, "v": v})
    again = decode_event(event.encode())
    assert again == event
    assert again.payload == event.payload
    assert event.value["data"] == data
    assert list(event.value) == sorted(event.value)


def test_a_broken_event_on_the_stream() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_event(b"{")
