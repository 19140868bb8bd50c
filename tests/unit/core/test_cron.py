from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inngest.core.errors import InngestError
from inngest.core.timing.cron import InvalidCron, jitter_offset, parse_cron

# What robfig/cron v3.0.1 answers: [expression, from ms, the next times in ms, null when it gives up].
GOLDEN = json.loads((Path(__file__).parent / "cron_golden.json").read_text())


def ms_of(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000


@pytest.mark.parametrize(("expression", "from_ms", "expected"), GOLDEN)
def test_agrees_with_robfig(expression: str, from_ms: int, expected: list[int | None]) -> None:
    cron = parse_cron(expression)
    at: int | None = from_ms
    for due in expected:
        assert at is not None
        at = cron.next_after(at)
        assert at == due


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    item = st.sampled_from(["*", "?"]) | number.map(str) | span
    stepped = st.tuples(item, st.integers(1, 20)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    return st.lists(item | stepped, min_size=1, max_size=3).map(",".join)


ZONES = ["UTC", "America/New_York", "Europe/Paris", "Australia/Lord_Howe", "Asia/Beirut", "America/Havana"]
INSTANTS = st.integers(ms_of("2020-01-01T00:00Z"), ms_of("2035-01-01T00:00Z"))
CLOCK_CHANGES = st.builds(
    lambda date, hours: ms_of(date) + hours * 3_600_000,
    st.sampled_from(["2026-03-08", "2026-11-01", "2026-03-29", "2026-10-25", "2026-10-03", "2026-04-04"]).map(
        lambda date: date + "T00:00Z"
    ),
    st.integers(-24, 24),
)


@given(
    st.tuples(
        numbers(0, 59),
        numbers(0, 23),
        numbers(1, 31) | st.just("*"),
        st.just("*"),
        numbers(0, 6) | st.just("*"),
    ),
    st.sampled_from(ZONES),
    INSTANTS | CLOCK_CHANGES,
)
def test_is_due_at_the_first_minute_whose_reading_matches(
    fields: tuple[str, ...], zone: str, start: int
) -> None:
    cron = parse_cron(f"TZ={zone} {' '.join(fields)}")

    def matches(second: int) -> bool:
        local = datetime.fromtimestamp(second, ZoneInfo(zone))
        by_day, by_weekday = local.day in cron.days, local.isoweekday() % 7 in cron.weekdays
        on_day = by_day or by_weekday if cron.either_day else by_day and by_weekday
        return on_day and local.hour in cron.hours and local.minute in cron.minutes

    due = cron.next_after(start)
    first = start // 60_000 * 60 + 60
    window = range(first, first + 2 * 86_400, 60)
    expected = next((second for second in window if matches(second)), None)
    if expected is None:
        assert due is None or (due // 1_000 >= window.stop and matches(due // 1_000))
    else:
        assert due == expected * 1_000


@given(numbers(0, 59), numbers(0, 23), numbers(1, 31), numbers(1, 12), numbers(0, 6), INSTANTS)
def test_times_strictly_increase(
    minute: str, hour: str, day: str, month: str, weekday: str, start: int
) -> None:
    cron = parse_cron(f"{minute} {hour} {day} {month} {weekday}")
    at = start
    for _ in range(5):
        due = cron.next_after(at)
        if due is None:
            break
        assert due > at
        local = datetime.fromtimestamp(due / 1_000, UTC)
        assert (local.second, local.microsecond) == (0, 0)
        assert local.minute in cron.minutes
        assert local.hour in cron.hours
        assert local.month in cron.months
        assert local - datetime.fromtimestamp(at / 1_000, UTC) < timedelta(days=366 * 6)
        at = due


@pytest.mark.parametrize(
    ("expression", "start", "expected"),
    [
        # midnight does not exist on 8 March 2026 in Havana, the rest of the day does
        ("TZ=America/Havana 0 0 * * *", "2026-03-07T12:00Z", "2026-03-09T04:00Z"),
        ("TZ=America/Havana 14 4 8 * *", "2026-03-07T12:00Z", "2026-03-08T08:14Z"),
        # 1:30 to 2:00 comes twice on 5 April 2026 on Lord Howe Island
        ("TZ=Australia/Lord_Howe 45 1 * * *", "2026-04-04T14:00Z", "2026-04-04T14:45Z"),
        ("TZ=Australia/Lord_Howe 45 1 * * *", "2026-04-04T14:45Z", "2026-04-04T15:15Z"),
        ("TZ=Australia/Lord_Howe 0 2 * * *", "2026-04-04T14:00Z", "2026-04-04T15:30Z"),
        # the last hour of 24 October 2026 comes twice in Beirut
        ("TZ=Asia/Beirut 30 23 * * *", "2026-10-24T20:30Z", "2026-10-24T21:30Z"),
        ("TZ=Asia/Beirut 30 23 * * *", "2026-10-24T21:30Z", "2026-10-25T21:30Z"),
    ],
)
def test_clock_changes_around_midnight_and_of_half_an_hour(
    expression: str, start: str, expected: str
) -> None:
    assert parse_cron(expression).next_after(ms_of(start)) == ms_of(expected)


def test_is_due_after_and_not_at() -> None:
    cron = parse_cron("0 0 * * *")
    midnight = ms_of("2026-01-02T00:00Z")
    assert cron.next_after(midnight - 1) == midnight
    assert cron.next_after(midnight) == midnight + 86_400_000
    assert cron.next_after(midnight + 1) == midnight + 86_400_000


def test_names_and_blanks_do_not_matter() -> None:
    one, other = parse_cron(" 0   9\t* JAN-mar,DEC Mon-FRI "), parse_cron("0 9 ? 1-3,12 1-5")
    assert (one.months, one.weekdays, one.zone) == (other.months, other.weekdays, other.zone)
    assert parse_cron("CRON_TZ=UTC  0 9 * * *").zone == one.zone


@pytest.mark.parametrize(
    ("expression", "field", "reason"),
    [
        ("", "", "expected five fields (minute, hour, day of month, month, day of week), found 0"),
        ("* * * *", "", "found 4"),
        ("0 * * * * *", "", "found 6"),
        ("TZ=UTC", "", "found 0"),
        ("@daily", "", "descriptors such as @daily are not supported"),
        ("TZ=UTC @every 5m", "", "descriptors"),
        ("60 * * * *", "minute", "60 is not within 0 to 59"),
        ("* 24 * * *", "hour", "24 is not within 0 to 23"),
        ("* * 0 * *", "day of month", "0 is not within 1 to 31"),
        ("* * * 13 *", "month", "13 is not within 1 to 12"),
        ("* * * * 7", "day of week", "7 is not within 0 to 6"),
        ("* * * foo *", "month", "'foo' is not a number or name"),
        ("* * * * jan", "day of week", "'jan' is not a number or name"),
        ("mon * * * *", "minute", "'mon' is not a number"),
        ("-5 * * * *", "minute", "'' is not a number"),
        ("1-2-3 * * * *", "minute", "'2-3' is not a number"),
        ("1/2/3 * * * *", "minute", "'2/3' is not a number"),
        ("*/0 * * * *", "minute", "the step of '*/0' is zero"),
        ("*/x * * * *", "minute", "'x' is not a number"),
        ("*-5 * * * *", "minute", "'*' is not a number"),
        ("9-5 * * * *", "minute", "the range '9-5' runs backwards"),
        ("* * * * fri-mon", "day of week", "the range 'fri-mon' runs backwards"),
        (", * * * *", "minute", "is empty"),
        ("٥ * * * *", "minute", "'٥' is not a number"),
        ("TZ=Mars/Base 0 9 * * *", "time zone", "unknown time zone 'Mars/Base'"),
        ("TZ= 0 9 * * *", "time zone", "unknown time zone ''"),
        ("TZ=../../etc/passwd 0 9 * * *", "time zone", "unknown time zone"),
        ("TZ=America 0 9 * * *", "time zone", "unknown time zone 'America'"),
    ],
)
def test_names_what_is_wrong(expression: str, field: str, reason: str) -> None:
    with pytest.raises(InvalidCron) as caught:
        parse_cron(expression)
    assert caught.value.field == field
    assert reason in caught.value.reason
    assert repr(expression) in str(caught.value)
    assert field in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, InngestError)


def test_jitter_is_a_fixed_offset() -> None:
    assert jitter_offset("f", "0 9 * * *", 1_700_000_000_000, 30_000) == 6846
    assert jitter_offset("f", "0 9 * * *", 1_700_000_000_000, 0) == 0
    arguments = [("f", "0 9 * * *", 1), ("g", "0 9 * * *", 1), ("f", "0 8 * * *", 1), ("f", "0 9 * * *", 2)]
    assert len({jitter_offset(*a, 2**40) for a in arguments}) == 4


@given(st.text(max_size=5), INSTANTS, st.integers(1, 300_000))
def test_jitter_stays_below_its_bound(function_id: str, scheduled: int, jitter_ms: int) -> None:
    assert 0 <= jitter_offset(function_id, "* * * * *", scheduled, jitter_ms) < jitter_ms
