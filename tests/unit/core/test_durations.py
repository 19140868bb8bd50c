from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inngest.core.errors import InngestError
from inngest.core.timing.durations import (
    InvalidDuration,
    format_duration,
    parse_date,
    parse_duration,
    parse_http_retry_after,
    parse_sleep,
    parse_timeout,
)
from inngest.core.timing.times import DAY

NOW = 1_700_000_000_123  # 2023-11-14T22:13:20.123Z


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0", 0),
        ("-0", 0),
        ("0s", 0),
        ("1ms", 1),
        ("1s", 1_000),
        ("1m30s", 90_000),
        ("1w2d3h4m5s", (((7 + 2) * 24 + 3) * 60 + 4) * 60_000 + 5_000),
        ("1.5h", 5_400_000),
        (".5s", 500),
        ("5.s", 5_000),
        ("1h1h", 7_200_000),
        ("5s1h", 3_605_000),
        ("-1.5s", -1_500),
        ("+3d", 3 * DAY),
        ("366d", 366 * DAY),
        ("1us", 1),
        ("1000us", 1),
        ("1001µs", 2),
        ("1001μs", 2),
        ("1ns", 1),
        ("0.0000000000001s", 1),
        ("-1ns", 0),
        ("9223372036854775807ns", 9_223_372_036_855),
    ],
)
def test_reads_durations(text: str, ms: int) -> None:
    assert parse_duration(text) == ms


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid duration '': a number is missing at position 1"),
        ("-", "invalid duration '-': a number is missing at position 2"),
        ("abc", "invalid duration 'abc': a number is missing at position 1"),
        ("10", "invalid duration '10': a unit (w d h m s ms us ns) is missing at position 3"),
        ("1h30", "invalid duration '1h30': a unit (w d h m s ms us ns) is missing at position 5"),
        ("1h5y", "invalid duration '1h5y': unknown unit 'y' at position 4"),
        ("1 h", "invalid duration '1 h': unknown unit ' h' at position 2"),
        ("5S", "invalid duration '5S': unknown unit 'S' at position 2"),
        (".s", "invalid duration '.s': a number is missing at position 1"),
        ("1h-5m", "invalid duration '1h-5m': unknown unit 'h-' at position 2"),
        ("٣s", "invalid duration '٣s': a number is missing at position 1"),
        ("9223372036854775808ns", "more than 292 years at position 1"),
        ("1h15251w", "more than 292 years at position 3"),
        ("9" * 5_000 + "s", "longer than any duration at position 101"),
    ],
)
def test_names_what_is_wrong_with_a_duration(text: str, message: str) -> None:
    with pytest.raises(InvalidDuration) as caught:
        parse_duration(text)
    assert message in str(caught.value)
    assert caught.value.text == text
    assert isinstance(caught.value, InngestError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0s"), (90, "90ms"), (90_000, "1m30s"), (36 * 3_600_000, "1d12h"), (-5_001, "-5s1ms")],
)
def test_writes_durations(ms: int, text: str) -> None:
    assert format_duration(ms) == text


@given(st.integers(-9_223_372_036_854, 9_223_372_036_854))
def test_a_written_duration_reads_back(ms: int) -> None:
    assert parse_duration(format_duration(ms)) == ms


@given(st.text(alphabet="0123456789.-+wdhmsnuµ T:Z", max_size=30))
def test_any_text_is_a_duration_or_refused_by_name(text: str) -> None:
    position = 0
    try:
        parse_duration(text)
    except InvalidDuration as error:
        position = error.position
    assert 0 <= position <= len(text)


INSTANT = 1_795_413_346_000  # 2026-11-23T05:55:46Z


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-11-23T05:55:46Z", INSTANT),
        ("2026-11-23t05:55:46z", INSTANT),
        ("2026-11-23T05:55:46.783Z", INSTANT + 783),
        ("2026-11-23T05:55:46,783Z", INSTANT + 783),
        ("2026-11-23T05:55:46.7830001Z", INSTANT + 784),
        ("2026-11-23T05:55:46.999999999Z", INSTANT + 1_000),
        ("2026-11-23T07:25:46+01:30", INSTANT),
        ("2026-11-23T07:25:46+0130", INSTANT),
        ("2026-11-22T21:55:46-08", INSTANT),
        ("2026-11-23T05:55:46", INSTANT),
        ("2026-11-23 05:55:46", INSTANT),
        ("2026-11-23 05:55:46 +00:00", INSTANT),
        ("2026-11-23T05:55Z", INSTANT - 46_000),
        ("2026-11-23", INSTANT - 46_000 - 55 * 60_000 - 5 * 3_600_000),
        ("Mon, 23 Nov 2026 05:55:46 GMT", INSTANT),
        ("Mon, 23 Nov 2026 05:55:46 UTC", INSTANT),
        ("Mon, 23 Nov 2026 06:55:46 +0100", INSTANT),
        ("23 Nov 2026 05:55:46 GMT", INSTANT),
        ("Monday, 23-Nov-26 05:55:46 GMT", INSTANT),
        ("Mon Nov 23 05:55:46 2026", INSTANT),
        ("Sun Nov  1 00:00:00 2026", 1_793_491_200_000),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777_000),
        ("1969-12-31T23:59:59.5Z", -500),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000),
    ],
)
def test_reads_dates(text: str, ms: int) -> None:
    assert parse_date(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "1m30s",
        "1w2d3h4m5s",
        "2026-02-30",
        "2026-13-01T00:00:00Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T05:55:46+25:00",
        "2026-11-23T05:55:46ZZ",
        "2026-11-23T",
        "20261123",
        "Mon, 23 Xyz 2026 05:55:46 GMT",
        "Mon, 23 Nov 2026 05:55:46 PST",
        "Mon, 23 Nov 2026",
        "0000-01-01T00:00:00Z",
        "2026-11-23T05:55:46Z\n",
        "٢026-11-23",
    ],
)
def test_what_is_not_a_date(text: str) -> None:
    assert parse_date(text) is None


@given(
    st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29)),
    st.integers(-1_439, 1_439),
)
def test_dates_agree_with_the_standard_library(wall: datetime, offset_minutes: int) -> None:
    date = wall.replace(
        microsecond=wall.microsecond // 1_000 * 1_000, tzinfo=timezone(timedelta(minutes=offset_minutes))
    )
    ms = (date - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert parse_date(date.isoformat()) == ms
    if date.year >= 1900:
        assert parse_date(format_datetime(date)) == ms // 1_000 * 1_000


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("", NOW),
        ("0s", NOW),
        ("10m", NOW + 600_000),
        ("-10m", NOW),
        ("2023-11-14T22:13:21.5Z", 1_700_000_001_500),
        ("2023-11-14", NOW),
        ("2023-11-15", 1_700_006_400_000),
    ],
)
def test_timeouts(text: str, due: int) -> None:
    assert parse_timeout(text, NOW) == due


@pytest.mark.parametrize("parse", [parse_timeout, parse_sleep])
@pytest.mark.parametrize("text", ["abc", "2026-13-01T00:00:00Z", "tomorrow at noon"])
def test_neither_a_date_nor_a_duration(parse: object, text: str) -> None:
    assert callable(parse)
    with pytest.raises(InvalidDuration, match=text[:5]):
        parse(text, NOW)


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("", NOW),
        ("1s", NOW + 1_000),
        ("1500ms", NOW + 1_500),
        ("1w2d3h4m5s", NOW + parse_duration("1w2d3h4m5s")),
        ("2023-11-14T22:13:25Z", 1_700_000_005_000),
        ("2023-11-14T22:13:25.001Z", 1_700_000_006_000),
        ("2023-11-14T22:13:25.999Z", 1_700_000_006_000),
        ("2023-11-14T22:13:20.124Z", 1_700_000_001_000),
        ("2023-11-14T22:13:20.123Z", NOW),
        ("2023-11-14T22:13:20.100Z", NOW),
        ("1999-01-01", NOW),
    ],
)
def test_sleeps(text: str, due: int) -> None:
    assert parse_sleep(text, NOW) == due


@pytest.mark.parametrize(
    ("value", "due"),
    [
        ("1", NOW + 1_000),
        (" 60 ", NOW + 60_000),
        ("0000060", NOW + 60_000),
        ("86401", NOW + DAY),
        ("9999999", NOW + DAY),
        ("2023-11-14T22:14:20Z", 1_700_000_060_000),
        ("2023-11-14T22:14:20.783Z", 1_700_000_060_783),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 1_700_000_060_000),
        ("Tuesday, 14-Nov-23 22:14:20 GMT", 1_700_000_060_000),
        ("Tue Nov 14 22:14:20 2023", 1_700_000_060_000),
        ("2023-11-14T22:13:21Z", NOW + 1_000),
        ("1999-01-01", NOW + 1_000),
        ("2999-01-01", NOW + DAY),
        ("0", None),
        ("-5", None),
        ("1.5", None),
        ("00000060", None),
        ("", None),
        ("soon", None),
        ("²", None),
    ],
)
def test_retry_after(value: str, due: int | None) -> None:
    assert parse_http_retry_after(value, NOW) == due
