"""Options of the sockets, as the kernel has them."""

from __future__ import annotations

import socket

from http_peer import answering, ok

from inngest.drivers.http import HttpClient


async def test_probes_find_a_dead_peer_and_small_writes_are_not_delayed(serve, client: HttpClient) -> None:
    peer = await serve(answering(ok()))
    await client.request("GET", peer.url, {}, b"", timeout=10)
    (pool,) = client._pools.values()
    (connection,) = pool._connections
    sock = connection._transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
