"""What a link to a Redis server refuses, and what becomes of requests that cannot be answered."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import pytest
from redis_servers import RedisServer, redis_server, until

from inngest.backends.redis import link as links
from inngest.backends.redis import wire
from inngest.backends.redis.connection import pack
from inngest.backends.redis.link import Link, call
from inngest.backends.redis.scripts import COMMIT, LEASE, RUN, SCRIPTS, STREAM_BACKLOG
from inngest.core.errors import StoreDefect, StoreError, StoreRefused, StoreUnavailable, StoreUnusable

PATIENCE = 60


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with redis_server(tmp_path / "redis") as server:
        yield server


Opened = Callable[..., Awaitable[Link]]


@pytest.fixture
async def opened(server: RedisServer) -> AsyncIterator[Opened]:
    made: list[Link] = []

    async def one(url: str = "", **options: Any) -> Link:
        link = Link(url or server.url, **options)
        await link.open()
        made.append(link)
        return link

    yield one
    for each in made:
        await each.close()


@pytest.fixture
async def link(opened: Opened) -> Link:
    return await opened(lanes=1)


async def _ends(link: Link, *commands: Any) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await link.run(list(commands))
    assert caught.value.system == link.system
    assert link.address in str(caught.value)
    return caught.value


# -- errors say what they are --


async def test_a_script_that_fails_is_a_defect(link: Link, server: RedisServer) -> None:
    server.client.set("stream:x", "no stream")
    error = await _ends(link, call(STREAM_BACKLOG, "stream:x", "g", 10))
    assert type(error) is StoreDefect
    assert "the script stream_backlog failed (WRONGTYPE Operation against a key" in str(error)
    assert error.facts["script"] == "stream_backlog"
    assert error.facts["code"] == "WRONGTYPE"
    assert "call(" in str(error.facts["line"])


async def test_a_command_in_a_script_that_fails_is_named(link: Link, server: RedisServer) -> None:
    server.client.set("inngest:{fn}:run:r", "no hash")
    (nothing,) = await link.run([call(RUN, "inngest:{fn}", "inngest:", "", "fn", "r", -1)])
    assert nothing is None  # a damaged record is no defect
    effect = ["remember", -1, -1, "name", "event", 1, "soon", 10]
    change = wire.encode(["fn", "", "", 0, [effect]])
    error = await _ends(link, call(COMMIT, "inngest:{fn}", "inngest:", "", change, "", "", -1, 0, 10))
    assert type(error) is StoreDefect
    assert "(PEXPIRE inngest:{fn}:cancelling:name)" in str(error)
    assert error.facts["code"] == "ERR"


async def test_a_lua_error_is_a_defect(link: Link) -> None:
    error = await _ends(
        link, call(LEASE, "ring", "inngest:", "", "executor", "no number", 0, "w", 1, "", 0, "")
    )
    assert type(error) is StoreDefect
    assert error.facts["script"] == "lease"
    assert "attempt to" in str(error) or "bad argument" in str(error)
    assert error.facts["line"]


async def test_a_command_that_fails_is_a_defect(link: Link, server: RedisServer) -> None:
    server.client.set("text", "x")
    error = await _ends(link, ("HVALS", "text"))
    assert type(error) is StoreDefect
    assert error.facts["command"] == "HVALS"
    assert type(await _ends(link, ("NOSUCH", "a"))) is StoreDefect


async def test_what_a_script_cannot_read_is_refused(link: Link) -> None:
    error = await _ends(link, call(COMMIT, "inngest:{f}", "inngest:", "", b"\xc1", "", "", -1, 0, 0))
    assert type(error) is StoreRefused
    assert error.facts["script"] == "commit"


@pytest.mark.parametrize("argument", ["half \ud800", None, True, [1]])
async def test_what_cannot_be_sent_is_refused_and_harms_nobody_else(link: Link, argument: Any) -> None:
    bad = asyncio.ensure_future(link.run([("SET", "a", argument)]))
    good = asyncio.ensure_future(link.run([("SET", "b", "1")]))
    results = await asyncio.gather(bad, good, return_exceptions=True)
    assert isinstance(results[0], StoreRefused)
    assert results[1] == [b"OK"]
    assert await link.run([("EXISTS", "a")]) == [0]


async def test_an_argument_that_is_too_large_is_refused(opened: Opened, server: RedisServer) -> None:
    server.set(proto_max_bulk_len=1024 * 1024)
    link = await opened()
    error = await _ends(link, ("SET", "a", b"x" * (1024 * 1024 + 1)))
    assert type(error) is StoreRefused
    assert error.facts["largest"] == 1024 * 1024
    assert await link.run([("SET", "a", b"x" * 1024 * 1024)]) == [b"OK"]


async def test_an_argument_that_the_server_finds_too_large_is_refused_soon(
    link: Link, server: RedisServer
) -> None:
    """It closes the connection, perhaps before it can be heard why; the link then asks what it takes now."""
    server.set(proto_max_bulk_len=1024 * 1024)
    large = ("SET", "a", b"x" * (1024 * 1024 + 1))
    for _ in range(2):
        await _ends(link, ("GET", "a"), large)
    assert type(await _ends(link, large)) is StoreRefused
    assert await link.run([("EXISTS", "a")]) == [0]


async def test_who_is_not_let_in_finds_the_store_unusable(opened: Opened, server: RedisServer) -> None:
    server.client.execute_command("ACL", "SETUSER", "bob", "on", ">pw", "~*", "&*", "+@all", "-set")
    with pytest.raises(StoreUnusable, match="does not let us in"):
        await opened(server.url.replace("unix://", "unix://bob:wrong@"))
    link = await opened(server.url.replace("unix://", "unix://bob:pw@"))
    assert type(await _ends(link, ("SET", "a", "1"))) is StoreUnusable
    server.client.execute_command("ACL", "SETUSER", "bob", "-hmget")
    # Of a script it is said in other words.
    error = await _ends(link, call(RUN, "inngest:{fn}", "inngest:", "", "fn", "r", -1))
    assert type(error) is StoreUnusable
    assert error.facts["script"] == "run"


async def test_a_server_that_is_held_by_a_script_is_unavailable(opened: Opened, server: RedisServer) -> None:
    server.set(busy_reply_threshold=1)
    link = await opened()
    long = asyncio.create_task(asyncio.to_thread(_loop_for_ever, server.url))
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await link.run([("GET", "a")])
            except StoreUnavailable as error:
                if "it is held by a script" in str(error):
                    break
    server.client.execute_command("SCRIPT", "KILL")
    await long
    assert await link.run([("GET", "a")]) == [None]


def _loop_for_ever(url: str) -> None:
    from redis import Redis
    from redis.exceptions import RedisError

    with Redis.from_url(url) as client, pytest.raises(RedisError):
        client.eval("while true do end", 0)


async def test_scripts_that_were_flushed_are_given_again(link: Link, server: RedisServer) -> None:
    server.client.script_flush()
    assert await link.script(RUN, "inngest:runs", "inngest:", "run", "", -1) is None
    assert server.client.script_exists(RUN.sha) == [True]


# -- requests that wait --


class Held:
    """A server that answers nothing until it is let go."""

    def __init__(self, link: Link, server: RedisServer) -> None:
        self._link = link
        self._server = server
        self.first: asyncio.Future[Any] | None = None

    async def __aenter__(self) -> Self:
        self._server.tell(signal.SIGSTOP)
        self.first = asyncio.ensure_future(self._link.run([("SET", "first", "1")]))
        await asyncio.sleep(0)
        await until(lambda: not self._link._queue)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.tell(signal.SIGCONT)


async def test_a_full_queue_pushes_back_at_once(
    link: Link, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "STORE_REQUESTS", 5)
    async with Held(link, server) as held:
        waiting = [asyncio.ensure_future(link.run([("SET", f"{n}", "1")])) for n in range(5)]
        await asyncio.sleep(0)
        error = await _ends(link, ("SET", "too much", "1"))
        assert type(error) is StoreUnavailable
        assert error.facts["waiting"] == 5
    assert held.first is not None
    assert await asyncio.gather(held.first, *waiting) == [[b"OK"]] * 6
    assert await link.run([("EXISTS", "too much")]) == [0]


async def test_bytes_that_wait_are_bounded_too(
    link: Link, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "STORE_BYTES", 10_000)
    monkeypatch.setattr(links, "STORE_BATCH_BYTES", 10_000)
    async with Held(link, server):
        waiting = [asyncio.ensure_future(link.run([("SET", "large", b"x" * 50_000)]))]
        await asyncio.sleep(0)  # one alone may be larger
        assert type(await _ends(link, ("SET", "too much", "1"))) is StoreUnavailable
    assert await asyncio.gather(*waiting) == [[b"OK"]]
    waiting = [asyncio.ensure_future(link.run([("SET", f"{n}", b"x" * 900)])) for n in range(10)]
    assert await asyncio.gather(*waiting) == [[b"OK"]] * 10
    assert link._queued == 0


async def test_what_shares_a_round_trip_is_bounded(
    link: Link, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "STORE_BATCH_BYTES", 1000)
    async with Held(link, server):
        trips = link.round_trips
        waiting = [asyncio.ensure_future(link.run([("SET", f"{n}", b"x" * 400)])) for n in range(10)]
        waiting.append(asyncio.ensure_future(link.run([("SET", "large", b"x" * 4000)])))
        await asyncio.sleep(0)
    assert await asyncio.gather(*waiting) == [[b"OK"]] * 11
    assert link.round_trips - trips == 6


async def test_who_has_given_up_is_not_served(link: Link, server: RedisServer) -> None:
    async with Held(link, server):
        waiting = asyncio.ensure_future(link.run([("SET", "a", "1")]))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        after = asyncio.ensure_future(link.run([("EXISTS", "a")]))
        await asyncio.sleep(0)
    assert await after == [0]


async def test_all_who_wait_are_told_that_there_is_no_server(opened: Opened, server: RedisServer) -> None:
    """Nobody waits for a try of their own, and nobody is kept for later."""
    link = await opened(lanes=1)
    server.kill()
    attempts = 0
    dial = link.dial

    async def counted() -> Any:
        nonlocal attempts
        attempts += 1
        return await dial()

    link.dial = counted  # type: ignore[method-assign]
    waiting = [asyncio.ensure_future(link.run([("SET", f"{n}", "1")])) for n in range(500)]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(result) for result in results} == {StoreUnavailable}
    assert attempts <= 2
    await server.start()
    assert await link.run([("DBSIZE",)]) == [0], "nothing is done later, behind the callers' backs"


async def test_a_server_that_hangs_is_given_up(
    opened: Opened, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "STORE_CONNECT", 200)
    link = await opened(lanes=1, answer=200)
    async with Held(link, server) as held:
        queued = asyncio.ensure_future(link.run([("SET", "queued", "1")]))
        assert held.first is not None
        async with asyncio.timeout(PATIENCE):
            for waiting in (held.first, queued):
                with pytest.raises(StoreUnavailable, match="did not answer in time"):
                    await waiting
    assert await link.run([("EXISTS", "queued")]) == [0]


async def test_replies_that_came_before_the_connection_broke_count(link: Link, server: RedisServer) -> None:
    """CLIENT KILL answers, and then the connection is closed: what was behind it was not done."""
    (me,) = await link.run([("CLIENT", "ID")])
    first = asyncio.ensure_future(link.run([("SET", "a", "1")]))
    kill = asyncio.ensure_future(link.run([("CLIENT", "KILL", "ID", me, "SKIPME", "no")]))
    last = asyncio.ensure_future(link.run([("SET", "b", "1")]))
    results = await asyncio.gather(first, kill, last, return_exceptions=True)
    assert results[:2] == [[b"OK"], [1]]
    assert type(results[2]) is StoreUnavailable
    assert await link.run([("MGET", "a", "b")]) == [[b"1", None]]


async def test_a_connection_that_was_closed_while_idle_is_made_anew(link: Link, server: RedisServer) -> None:
    """Nothing was asked on it, so nobody has to be told."""
    server.client.client_kill_filter(_type="normal", skipme=True)
    await until(lambda: len(server.client.client_list()) == 1)
    await asyncio.sleep(0.01)
    assert await link.run([("SET", "a", "1")]) == [b"OK"]


async def test_nothing_is_repeated(link: Link, server: RedisServer) -> None:
    async with Held(link, server) as held:
        server.kill()
        assert held.first is not None
        with pytest.raises(StoreUnavailable):
            await held.first
        await server.start()
    assert await link.run([("EXISTS", "first")]) == [0]


async def test_closing_tells_all_who_wait(opened: Opened, server: RedisServer) -> None:
    link = await opened(lanes=1)
    blocking = asyncio.ensure_future(link.block(("BLPOP", "list", 0), 600))
    await until(lambda: server.client.info("clients")["blocked_clients"] == 1)
    async with Held(link, server) as held:
        queued = asyncio.ensure_future(link.run([("SET", "a", "1")]))
        await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE):
            await link.close()
            for waiting in (held.first, queued, blocking):
                assert waiting is not None
                with pytest.raises(StoreUnavailable, match="not open"):
                    await waiting
    await until(lambda: len(server.client.client_list()) == 1)
    with pytest.raises(StoreUnavailable, match="not open"):
        await link.run([("PING",)])
    with pytest.raises(StoreUnavailable, match="not open"):
        await link.block(("BLPOP", "list", 0), 1)


async def test_what_blocks_has_connections_of_its_own_and_keeps_them(link: Link, server: RedisServer) -> None:
    for _ in range(3):
        blocking = [asyncio.ensure_future(link.block(("BLPOP", f"list {n}", 0), 600)) for n in range(3)]
        await until(lambda: server.client.info("clients")["blocked_clients"] == 3)
        assert await link.run([("RPUSH", f"list {n}", "x") for n in range(3)]) == [1, 1, 1]
        assert [reply[1] for reply in await asyncio.gather(*blocking)] == [b"x"] * 3
    assert len(server.client.client_list()) == 1 + 1 + 3
    given_up = asyncio.ensure_future(link.block(("BLPOP", "list", 0), 600))
    await until(lambda: server.client.info("clients")["blocked_clients"] == 1)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    await until(lambda: server.client.info("clients")["blocked_clients"] == 0)


async def test_what_blocks_too_long_is_given_up(opened: Opened, server: RedisServer) -> None:
    link = await opened(answer=50)
    with pytest.raises(StoreUnavailable, match="did not answer in time"):
        await link.block(("BLPOP", "list", 0), 0.01)


async def test_a_server_that_is_too_old_is_unusable(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inngest.backends.redis.server.OLDEST", (99, 0))
    with pytest.raises(StoreUnusable, match="too old"):
        await opened()


def test_commands_are_packed_as_the_server_reads_them() -> None:
    assert pack(("SET", b"k\x00", 12, -1.5, memoryview(b"m"), "ü")) == (
        b"*6\r\n$3\r\nSET\r\n$2\r\nk\x00\r\n$2\r\n12\r\n$4\r\n-1.5\r\n$1\r\nm\r\n$2\r\n\xc3\xbc\r\n"
    )


def test_a_script_tells_whether_it_writes() -> None:
    assert {script.name for script in SCRIPTS.values() if not script.writes} == {
        "run",
        "item",
        "run_items",
        "stream_backlog",
        "stream_settled",
    }
