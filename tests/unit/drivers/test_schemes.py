"""The driver of a call is chosen by its URL."""

from __future__ import annotations

import msgspec
import pytest

from inngest.core.model.functions import Function
from inngest.core.model.runs import Item, Kind, Partition, Run
from inngest.core.sdk.responses import Answer, Busy, Failure, Returned
from inngest.drivers.schemes import SchemeDriver


class Driver:
    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.calls: list[tuple[Run, Function, Item]] = []
        self.closed = 0

    async def call(self, run: Run, fn: Function, item: Item) -> Answer:
        self.calls.append((run, fn, item))
        return self.answer

    async def close(self) -> None:
        self.closed += 1


PART = Partition(id="p", fn="f")
RUN = Run(
    id="r", fn="f", slug="app-fn", app="app", events=[b"{}"], event_ids=["e"], key="k", created=1, start=PART,
    work=PART,
)  # fmt: skip
ITEM = Item(job="j", kind=Kind.START, fn="f", run="r", due=1, score=1, partition="p")


def function(url: str) -> Function:
    return Function(id="f", slug="app-fn", name="fn", app="app", app_id="a", url=url, triggers=[])


@pytest.fixture
def http() -> Driver:
    return Driver(Returned(output=b"1"))


@pytest.fixture
def socket() -> Driver:
    return Driver(Busy())


@pytest.fixture
def drivers(http: Driver, socket: Driver) -> SchemeDriver:
    return SchemeDriver({"http": http, "https": http, "ws": socket})


@pytest.mark.parametrize("url", ["http://a/", "https://a/", "HTTP://a/", "Https://user:pw@a:1/b?c#d"])
async def test_each_scheme_has_its_driver(
    url: str, drivers: SchemeDriver, http: Driver, socket: Driver
) -> None:
    fn = function(url)
    assert await drivers.call(RUN, fn, ITEM) is http.answer
    assert http.calls == [(RUN, fn, ITEM)]
    assert await drivers.call(RUN, function("ws://connect"), ITEM) is socket.answer


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("ftp://user:secret@a/", "the scheme 'ftp'"),
        ("httpx://a/", "the scheme 'httpx'"),
        ("x" * 5000 + "://a/", f"the scheme '{'x' * 40}'"),
        ("http", "no scheme"),
        ("/api/inngest", "no scheme"),
        ("", "no scheme"),
        ("://a", "the scheme ''"),
    ],
)
async def test_an_unknown_scheme_is_a_failure_that_names_it_and_what_is_known(
    url: str, what: str, drivers: SchemeDriver, http: Driver, socket: Driver
) -> None:
    answer = await drivers.call(RUN, function(url), ITEM)
    assert isinstance(answer, Failure)
    message = msgspec.json.decode(answer.error)["message"]
    assert message == f"The URL of app-fn has {what}; this server calls http, https, ws"
    assert not answer.no_retry
    assert http.calls == socket.calls == []


async def test_every_driver_is_closed_once(drivers: SchemeDriver, http: Driver, socket: Driver) -> None:
    await drivers.close()
    assert (http.closed, socket.closed) == (1, 1)
