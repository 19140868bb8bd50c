"""The demonstration itself: the server, the example application, one order, its run step by step."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import aiohttp
import click

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "orders-python"
ORDER = {
    "order_id": "A-1001",
    "customer": "ada",
    "items": [{"sku": "tea", "quantity": 2, "price": 4.5}, {"sku": "cup", "quantity": 1, "price": 12.0}],
}
PATIENCE = 60.0
"""Seconds to wait for the server, for the application and for the end of the run."""

RUN = """
query Run($id: String!) {
  run(runID: $id) {
    status
    output
    trace(preview: true) { childrenSpans { spanID name status stepOp attempts } }
  }
}
"""


def port(preferred: int) -> int:
    """The preferred port of the loopback address, or any other if it is taken."""
    for candidate in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", candidate))
                return int(probe.getsockname()[1])
    raise click.ClickException("there is no free port")


class Child:
    """A process of this demonstration, with its output in a file."""

    def __init__(self, name: str, *command: str, **environment: str) -> None:
        self.name = name
        self.command = command
        self.environment = environment
        self.log = ROOT / ".cache" / "demo" / f"{name}.log"

    async def __aenter__(self) -> Self:
        with self.log.open("wb") as output:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                env={**os.environ, **self.environment},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return self

    def check(self) -> None:
        """Raise if the process has ended by itself."""
        if self.process.returncode is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise click.ClickException(f"the {self.name} ended with {self.process.returncode}:\n{tail}")

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), 10)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()


class Server:
    """The server's HTTP interfaces, as this demonstration uses them."""

    def __init__(self, url: str, session: aiohttp.ClientSession, children: Sequence[Child]) -> None:
        self.url = url
        self.session = session
        self.children = children

    async def pause(self) -> None:
        """Wait a little before asking again, and fail if a process has ended meanwhile."""
        await asyncio.sleep(0.1)
        for child in self.children:
            child.check()

    async def query(self, query: str, **variables: object) -> Any:
        body = {"query": query, "variables": variables}
        async with self.session.post(f"{self.url}/v0/gql", json=body) as answer:
            answer.raise_for_status()
            content = await answer.json()
        if content.get("errors"):
            raise click.ClickException(str(content["errors"]))
        return content["data"]

    async def send(self, name: str, data: object) -> str:
        async with self.session.post(f"{self.url}/e/demo", json={"name": name, "data": data}) as answer:
            content = await answer.json()
        return str(content["ids"][0])

    async def wait_function(self, slug: str) -> None:
        """Wait until the server has started and the application has registered this function."""
        while True:
            try:
                found = await self.query("{ functions { slug } }")
                if slug in [function["slug"] for function in found["functions"]]:
                    return
            except aiohttp.ClientConnectionError:
                pass
            except aiohttp.ClientResponseError as error:
                if error.status != HTTPStatus.SERVICE_UNAVAILABLE:  # until all services are up
                    raise
            await self.pause()

    async def wait_run(self, event: str) -> str:
        """Wait until the event has started a run."""
        while True:
            async with self.session.get(f"{self.url}/v1/events/{event}/runs") as answer:
                content = await answer.json()
            if answer.ok and content["data"]:
                return str(content["data"][0]["run_id"])
            await self.pause()


async def show(server: Server, run: str) -> bool:
    """Print each step of the run when its state changes, until the run ends; return whether it completed."""
    shown: dict[str, str] = {}
    start = asyncio.get_running_loop().time()
    while True:
        found = (await server.query(RUN, id=run))["run"]
        elapsed = asyncio.get_running_loop().time() - start
        for span in (found["trace"] or {}).get("childrenSpans") or ():
            state = span["status"] if (span["attempts"] or 0) < 2 else f"{span['status']} after a retry"
            if shown.get(span["spanID"]) != state:
                shown[span["spanID"]] = state
                kind = (span["stepOp"] or "").replace("_", " ").lower()
                click.echo(f"  {elapsed:5.1f} s  {span['name']:<24} {kind:<16} {state.lower()}")
        if found["status"] in {"COMPLETED", "FAILED", "CANCELLED", "SKIPPED"}:
            click.echo(f"\nThe run is {found['status'].lower()}. Its output:")
            with contextlib.suppress(TypeError, ValueError):
                found["output"] = json.dumps(json.loads(found["output"]), indent=2)
            click.echo(found["output"])
            return bool(found["status"] == "COMPLETED")
        await server.pause()


def suggest(url: str, run: str, logs: list[Path]) -> None:
    """Print what a reader may try next."""
    order = json.dumps({"name": "shop/order.placed", "data": {**ORDER, "order_id": "A-1002"}})
    empty = json.dumps({"name": "shop/order.placed", "data": {"order_id": "A-1003"}})
    cancel = json.dumps({"name": "shop/order.cancelled", "data": {"order_id": "A-1002"}})
    click.echo(f"""
The server and the application stay up until you press Ctrl-C. To try next, in another terminal:

  # another order; the answer holds the event's id
  curl {url}/e/demo -d '{order}'

  # the newest events; the runs that one of them has started; then one run
  curl '{url}/v1/events?limit=5'
  curl {url}/v1/events/EVENT_ID/runs
  curl {url}/v1/runs/{run}

  # cancel that order while it is being fulfilled
  curl {url}/e/demo -d '{cancel}'

  # an order that fails and gives its stock back
  curl {url}/e/demo -d '{empty}'

The application is {EXAMPLE.relative_to(ROOT)}/app.py; the logs are {" and ".join(map(str, logs))}.""")


async def demonstrate(app_python: str, once: bool) -> bool:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    server_port, app_port = port(8288), port(8000)
    url, serve_url = f"http://127.0.0.1:{server_port}", f"http://127.0.0.1:{app_port}/api/inngest"
    options = ["--host", "127.0.0.1", "--port", str(server_port), "--no-discovery", "-u", serve_url]
    settings = {"INNGEST_DEV": url, "PORT": str(app_port), "PYTHONUNBUFFERED": "1"}
    click.echo(f"Starting the server on {url} and the application on http://127.0.0.1:{app_port}.")
    async with (
        Child("server", sys.executable, "-m", "inngest.cli", "dev", *options) as service,
        Child("application", app_python, str(EXAMPLE / "app.py"), **settings) as application,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session,
    ):
        server = Server(url, session, [service, application])
        async with asyncio.timeout(PATIENCE):
            await server.wait_function("orders-fulfil-order")
            click.echo("The application has registered its functions. Placing an order:\n")
            run = await server.wait_run(await server.send("shop/order.placed", ORDER))
            completed = await show(server, run)
        if not once:
            suggest(url, run, [child.log.relative_to(ROOT) for child in server.children])
            while True:
                await server.pause()
        return completed


@click.command()
@click.option("--app-python", required=True, help="The interpreter with the example's requirements.")
@click.option("--once", is_flag=True, help="End after the first run.")
def main(app_python: str, once: bool) -> None:
    """Show one run of the example application on the server."""
    try:
        completed = asyncio.run(demonstrate(app_python, once))
    except TimeoutError:
        raise click.ClickException(
            f"the run did not end within {PATIENCE:.0f} s; see .cache/demo/*.log"
        ) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        completed = not once
    sys.exit(not completed)


if __name__ == "__main__":
    main()
