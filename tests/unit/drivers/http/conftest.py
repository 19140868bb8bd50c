from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import uvloop
from http_peer import Handler, Peer, Server

from inngest.drivers.http import HttpClient

Serve = Callable[..., Awaitable[Peer]]
MakeClient = Callable[..., HttpClient]


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """``await serve(handler)`` starts a server and returns its Peer."""
    servers: list[Server] = []

    async def start(handler: Handler, host: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> Peer:
        server = Server(handler, Peer())
        await server.start(host, context)
        servers.append(server)
        return server.peer

    yield start
    for server in servers:
        await server.stop()


@pytest.fixture
async def make_client() -> AsyncIterator[MakeClient]:
    clients: list[HttpClient] = []

    def make(**options: object) -> HttpClient:
        client = HttpClient(**options)  # type: ignore[arg-type]
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.close()


@pytest.fixture
async def client(make_client: MakeClient) -> HttpClient:
    return make_client()


class Authority(NamedTuple):
    """A certificate authority of the tests' own, and a certificate of it for ``localhost`` and 127.0.0.1."""

    trust: ssl.SSLContext
    server: ssl.SSLContext


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("tls")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    # Python 3.13 is strict about what an authority and its certificates say of themselves.
    _openssl(
        *(folder, "req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2"),
        *("-subj", "/CN=CA", "-addext", "keyUsage=critical,keyCertSign"),
    )
    _openssl(folder, "req", *curve, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
    _openssl(
        *(folder, "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key"),
        *("-CAcreateserial", "-out", "server.pem", "-days", "2", "-extfile", "names"),
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(folder / "server.pem", folder / "server.key")
    return Authority(ssl.create_default_context(cafile=folder / "ca.pem"), server)


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
