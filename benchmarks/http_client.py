"""CPU time of one call to an application: this package's HTTP client against aiohttp's.

A stub application answers in a second process; only the client's process is measured (user and system time).
Each POST has a body of 300 bytes and the headers of a step call, each answer a body of 200 bytes.

    python benchmarks/http_client.py [--calls 40000] [--concurrency 32] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from typing import cast

import aiohttp
import uvloop

from inngest.drivers.http import HttpClient

BODY = b"x" * 300
HEADERS = {
    "content-type": "application/json",
    "x-inngest-server-kind": "dev",
    "x-inngest-signature": "t=1700000000&s=" + "0" * 64,
    "x-run-id": "01JQ0000000000000000000000",
    "x-request-id": "01JQ0000000000000000000001",
    "x-inngest-req-version": "2",
    "user-agent": "inngest",
}
ANSWER = (
    b"HTTP/1.1 206 Partial Content\r\n"
    b"content-type: application/json\r\n"
    b"x-inngest-sdk: inngest-js:v4.24.0\r\n"
    b"x-inngest-req-version: 2\r\n"
    b"date: Mon, 23 Nov 2026 05:55:46 GMT\r\n"
    b"content-length: 200\r\n\r\n" + b"y" * 200
)

Call = Callable[[], Awaitable[object]]


class Stub(asyncio.Protocol):
    """Answers each request whose body has come in full, told by its size alone."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if data.endswith(BODY):
            self.transport.write(ANSWER)


def serve(ready: Connection) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


async def measure(call: Call, calls: int, concurrency: int) -> float:
    """Microseconds of CPU a call."""

    async def caller(count: int) -> None:
        for _ in range(count):
            await call()

    await asyncio.gather(*(caller(20) for _ in range(concurrency)))
    start = time.process_time()
    await asyncio.gather(*(caller(calls // concurrency) for _ in range(concurrency)))
    return (time.process_time() - start) / (calls // concurrency * concurrency) * 1e6


async def measure_own(url: str, calls: int, concurrency: int) -> float:
    client = HttpClient()
    target = client.target(url)

    async def call() -> None:
        response = await client.request("POST", target, HEADERS, BODY, timeout=7200)
        assert response.status == 206
        assert len(response.body) == 200

    try:
        return await measure(call, calls, concurrency)
    finally:
        await client.close()


async def measure_aiohttp(url: str, calls: int, concurrency: int) -> float:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=7200)) as session:

        async def call() -> None:
            async with session.post(url, data=BODY, headers=HEADERS) as response:
                assert response.status == 206
                assert len(await response.read()) == 200

        return await measure(call, calls, concurrency)


def main() -> None:
    arguments = argparse.ArgumentParser(description="CPU time of one HTTP call")
    arguments.add_argument("--calls", type=int, default=40_000)
    arguments.add_argument("--concurrency", type=int, default=32)
    arguments.add_argument("--rounds", type=int, default=3)
    given = arguments.parse_args()
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{here.recv()}/api/inngest?fnId=app-fn&stepId=step"
    try:
        own, other = (
            min(uvloop.run(run(url, given.calls, given.concurrency)) for _ in range(given.rounds))
            for run in (measure_own, measure_aiohttp)
        )
    finally:
        server.terminate()
        server.join()
    print(f"inngest.drivers.http  {own:6.1f} us of CPU a call")
    print(f"aiohttp               {other:6.1f} us of CPU a call")
    print(f"ratio                 {other / own:6.2f}")


if __name__ == "__main__":
    main()
