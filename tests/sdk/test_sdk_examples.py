"""The example applications do on the server what their READMEs say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from environments import ROOT, Program, UnavailableError, node_environment, python_environment
from harness import Process, Server, eventually, free_port

ORDER = {
    "order_id": "A-1001",
    "customer": "ada",
    "items": [{"sku": "tea", "quantity": 2, "price": 4.5}, {"sku": "cup", "quantity": 1, "price": 12.0}],
}


def python_example() -> Program:
    directory = ROOT / "examples" / "orders-python"
    return Program((str(python_environment(directory / "requirements.txt")), "app.py"), directory)


def typescript_example() -> Program:
    directory = node_environment(ROOT / "examples" / "orders-typescript")
    return Program(("npm", "start", "--silent"), directory)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("orders", python_example), id="python"),
        pytest.param(("orders-typescript", typescript_example), id="typescript"),
    ],
)
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that has found the example application by itself, as in the README."""
    name: str
    example: Callable[[], Program]
    name, example = request.param
    try:
        program = example()
    except UnavailableError as reason:
        pytest.skip(str(reason))
    directory: Path = tmp_path_factory.mktemp(name)
    port = free_port()
    options = ["--no-discovery", "-u", f"http://127.0.0.1:{port}/api/inngest", "--poll-interval", "1"]
    server = Server(directory / "server.log", options=options)
    app = Process(program, directory / "app.log", {"PORT": str(port), "INNGEST_DEV": server.url})
    with server, app:
        eventually(lambda: f"{name}-fulfil-order" in server.functions(), f"the functions of {name}")
        yield server


def test_an_order_is_fulfilled(shop: Server) -> None:
    run = shop.wait_run(shop.send({"name": "shop/order.placed", "data": ORDER})[0])
    assert run.status == "Completed"
    assert run.output == {
        "order_id": "A-1001",
        "reserved": [{"sku": "tea", "quantity": 2}, {"sku": "cup", "quantity": 1}],
        "charged": 21.0,
        "paid_through": "example",
        "receipt": "receipt-A-1001",
    }
    trace = shop.trace(run.id)["trace"]
    kinds = {span["name"]: span["stepOp"] for span in trace["childrenSpans"]}
    assert (
        kinds.items()
        >= {
            "reserve tea": "RUN",
            "reserve cup": "RUN",
            "charge card": "RUN",
            "payment confirmed": "WAIT_FOR_EVENT",
            "pack the parcel": "SLEEP",
            "send receipt": "INVOKE",
        }.items()
    )


def test_an_order_without_items_fails_and_gives_its_stock_back(shop: Server) -> None:
    run = shop.wait_run(shop.send({"name": "shop/order.placed", "data": {"order_id": "A-1002"}})[0])
    assert run.status == "Failed"
    assert "an order needs an order_id and at least one item" in str(run.output)
    listing = "/v1/events?name=inngest/function.failed"
    (failure,) = eventually(lambda: shop.api("GET", listing)["data"], "the failure event")
    assert shop.wait_run(failure["internal_id"]).status == "Completed"


def test_an_order_can_be_cancelled(shop: Server) -> None:
    order = {**ORDER, "order_id": "A-1003"}
    run = shop.wait_started(shop.send({"name": "shop/order.placed", "data": order})[0])
    shop.send({"name": "shop/order.cancelled", "data": {"order_id": "A-1003"}})
    assert shop.wait_ended(run.id).status == "Cancelled"
