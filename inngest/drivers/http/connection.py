"""One connection to an application: sends a request, parses the response, knows if it can be used again."""

from __future__ import annotations

import asyncio
import fcntl
import math
import select
import sys
import termios
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol, cast

import httptools
from msgspec import Struct

from inngest.core.content import Decoder, DecodingError, decoder_for
from inngest.drivers.http.errors import (
    AnswerLost,
    HttpClientClosed,
    HttpError,
    HttpProtocolError,
    HttpTimeout,
    HttpTooLarge,
    StaleConnection,
)
from inngest.drivers.http.old import OldHead
from inngest.drivers.http.target import Target
from inngest.loops.room import Room

MAX_HEAD_BYTES = 64 * 1024
"""Most bytes outside the body at a stretch: the head with its interim responses, chunk extensions,
trailers."""

SMALL = 64 * 1024
"""A body up to this size needs no room."""

# Below this size one joined write is cheaper than two.
_JOIN_BYTES = 64 * 1024
_KNOWN_NAMES = 1024


class HttpResponse(Struct, frozen=True, gc=False):
    """A response as it came, but for the body, whose content coding is undone.

    ``headers`` maps lower-cased names to values read as Latin-1; of a repeated header the last one is kept.
    ``url`` is the URL that answered, after redirects, without credentials.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    url: str


class Owner(Protocol):
    """Who keeps the connection while nobody uses it, and hears of its beginning and end."""

    def opened(self, connection: Connection) -> None: ...
    def closed(self, connection: Connection) -> None: ...


class _Names(dict[bytes, str]):
    """Header name as sent -> lower-cased text."""

    def __missing__(self, name: bytes) -> str:
        text = name.decode("latin-1").lower()
        if len(self) < _KNOWN_NAMES:
            self[name] = text
        return text


_names = _Names()


@lru_cache(maxsize=64)
def _keep_alive_seconds(value: str) -> float:
    """Idle limit by the peer's ``Keep-Alive: timeout=N``, a second early so as to be the first to close."""
    for part in value.split(","):
        name, _, seconds = part.strip().partition("=")
        if name.lower() == "timeout" and seconds.isdecimal():
            return max(int(seconds) - 1.0, 0.0)
    return math.inf


class Connection(asyncio.Protocol):
    """A protocol that carries one request at a time.

    The response goes to the one future that :meth:`send` returns. A connection whose response did not end
    cleanly is never ``ready`` again. One timer serves both the request's deadline and the idle limit: it is
    moved only when the new deadline is earlier than the timer, so that the usual request touches no timer at
    all.

    A response that is not small asks for ``room`` before it is read to its end; it has it until it has been
    given to the caller.
    """

    __slots__ = (
        "_answered",
        "_asked",
        "_body",
        "_closing",
        "_complete",
        "_deadline",
        "_decoder",
        "_excess",
        "_fields",
        "_future",
        "_head_only",
        "_headers",
        "_idle_seconds",
        "_interim",
        "_keep_alive",
        "_loop",
        "_max_body",
        "_old_head",
        "_overhead",
        "_owner",
        "_parser",
        "_poll",
        "_refused",
        "_room",
        "_seconds",
        "_size",
        "_status",
        "_target",
        "_timer",
        "_timer_at",
        "_transport",
        "_until_close",
        "_used",
        "_waits",
        "_where",
        "on_header",
        "ready",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        owner: Owner,
        where: str,
        *,
        max_body: int,
        idle_seconds: float,
        room: Room | None = None,
    ) -> None:
        self._loop = loop
        self._owner = owner
        self._where = where
        self._max_body = max_body
        self._idle_seconds = idle_seconds
        self._room = room
        self._asked = 0  # bytes of room, asked for or taken
        self._waits = False  # for room
        self.ready = False
        """At rest between two messages, and good for another one."""
        self._closing = False
        self._used = False
        self._poll: select.poll | None = None
        self._size = 0  # of the request
        self._refused = False  # the peer has accepted nothing of it
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._deadline = math.inf
        self._seconds = 0.0
        self._future: asyncio.Future[HttpResponse] | None = None
        self._target: Target
        self._transport: asyncio.Transport
        self._decoder: Decoder | None = None
        self._headers: dict[str, str] = {}
        self._status = 0
        self._interim = self._until_close = False
        # The parser stores header fields without a Python frame a field. Trailers end here too, unread.
        self._fields: dict[bytes, bytes] = {}
        self.on_header: Callable[[bytes, bytes], None] = self._fields.__setitem__
        self._parser = httptools.HttpResponseParser(self)
        self._start(head_only=False)

    def _start(self, *, head_only: bool) -> None:
        self._head_only = head_only
        self._answered = self._complete = self._excess = self._keep_alive = False
        self._overhead = 0
        self._body: bytes | bytearray = b""
        self._old_head: OldHead | None = None

    # What the pool calls

    def send(
        self, head: bytes, body: bytes, target: Target, *, head_only: bool, deadline: float, seconds: float
    ) -> asyncio.Future[HttpResponse]:
        """Write a request; the future gets the response, or one of the errors of this package:
        `StaleConnection` if the request can be sent again on another connection, `AnswerLost` if it may have
        been handled.

        ``head_only`` is for HEAD. ``deadline`` is on the loop's clock; ``seconds`` is the whole time-out it
        stands for.
        """
        future: asyncio.Future[HttpResponse] = self._loop.create_future()
        if self._closing or (self._used and self._has_ended()):
            future.set_exception(
                StaleConnection(self._where, "the connection closed before the request was sent")
            )
            return future
        self.ready = False
        self._future = future
        self._target = target
        self._seconds = seconds
        self._start(head_only=head_only)
        self._deadline = deadline
        if deadline < self._timer_at:
            self._move_timer()
        self._size = len(head) + len(body)
        self._refused = False
        if len(body) < _JOIN_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        return future

    def _has_ended(self) -> bool:
        """Whether an idle connection is at its end although the loop has not come to hear of it: then the
        peer closed it before there was a request. Whatever else it may have to say, nobody asked for.
        """
        if self._transport.is_closing():
            return True
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        if not self._poll.poll(0):
            return False
        self._closing = True
        self._transport.abort()
        return True

    def _is_refused(self) -> bool:
        """Whether the peer's system has accepted not one byte of the request, by what is unacknowledged of
        what was handed to ours. Only while the socket is open; False if it cannot be told.
        """
        sock = self._transport.get_extra_info("socket")
        if sock is None or self._target.scheme == "https":  # whose records are longer than what is in them
            return False
        try:
            answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
        except OSError:
            return False
        handed_over = self._size - self._transport.get_write_buffer_size()
        return int.from_bytes(answer, sys.byteorder) == handed_over

    def park(self) -> None:
        """Start to count idle time."""
        limit = self._idle_seconds
        if (hint := self._headers.get("keep-alive")) is not None:
            limit = min(limit, _keep_alive_seconds(hint))
        self._deadline = deadline = self._loop.time() + limit
        if deadline < self._timer_at:
            self._move_timer()

    def abort(self) -> None:
        """Drop the connection at once; a caller who still waits is told that the client is closed."""
        self._fail(HttpClientClosed())

    # Transport callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio.Transport.
        self._transport = cast("asyncio.Transport", transport)
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._future is None:
            self._fail(HttpProtocolError(self._where, "data came that answer no request"))
            return
        self._overhead += len(data)
        if not self._answered and OldHead.begins(data):
            self._old_head = OldHead()
        self._answered = True
        if self._old_head is not None:
            if not (data := self._old_head.feed(data)) and self._overhead <= MAX_HEAD_BYTES:
                return
            self._old_head = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(HttpProtocolError(self._where, "it switched protocols unasked (status 101)"))
            return
        except httptools.HttpParserError as error:
            if not self._complete:
                self._fail(self._explained(error))
                return
            self._excess = True
        if self._complete:
            self._finish()
        elif self._overhead > MAX_HEAD_BYTES:
            self._fail(HttpTooLarge(self._where, part="head", limit=MAX_HEAD_BYTES))

    def eof_received(self) -> None:
        if self._future is not None and self._until_close:
            self._finish()
        if self._future is not None and self._used and not self._answered:
            # The peer took a kept connection for idle, while the request was on its way.
            self._refused = self._is_refused()
        # The transport closes itself now.
        self._closing = True
        self.ready = False

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        if self._future is not None:
            why = f" ({exc})" if exc else ""
            kind: type[HttpProtocolError] = AnswerLost
            if self._answered:
                when = "in the middle of the response"
            elif self._refused:
                kind, when = StaleConnection, "before the request came"
            else:
                when = "before an answer came"
            self._fail(kind(self._where, f"the connection was closed {when}{why}"))
        self.ready = False
        self._drop_timer()
        self._owner.closed(self)

    # Parser callbacks

    def on_message_begin(self) -> None:
        if self._complete:
            self._excess = True
        self._fields.clear()

    def on_headers_complete(self) -> None:
        if self._complete:
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._interim = True
            return
        self._status = status
        fields = self._fields
        if self._overhead > MAX_HEAD_BYTES and _size(fields) > MAX_HEAD_BYTES:
            raise HttpTooLarge(self._where, part="head", limit=MAX_HEAD_BYTES)
        self._headers = headers = {_names[name]: value.decode("latin-1") for name, value in fields.items()}
        if self._head_only:
            # The parser cannot know that no body follows, so it and the connection are not used again.
            self._complete = True
            return
        if "content-length" in headers:
            self._until_close = False
            if status not in {204, 304}:
                length = int(headers["content-length"])
                if length > self._max_body:
                    raise HttpTooLarge(self._where, part="body", limit=self._max_body)
                if length > SMALL and "content-encoding" not in headers:
                    self._ask(length)
        elif "transfer-encoding" in headers:
            self._until_close = False
            if headers["transfer-encoding"].lower() != "chunked":
                raise HttpProtocolError(self._where, "its transfer encoding is not chunked")
        else:
            self._until_close = True  # unless the parser knows better: 204, 304
        coding = headers.get("content-encoding")
        if coding is not None:
            self._decoder = decoder_for(coding)

    def on_body(self, data: bytes) -> None:
        if self._complete:
            self._excess = True
            return
        self._overhead = 0
        if self._decoder is not None:
            data = self._decoder.feed(data, self._max_body - len(self._body))
        if not self._body:
            self._body = data
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += data
        if len(self._body) > SMALL:
            if len(self._body) > self._max_body:
                raise HttpTooLarge(self._where, part="body", limit=self._max_body)
            self._ask(self._max_body)  # how much is to come is not known

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        elif not self._complete:
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive()

    # Room

    def _ask(self, size: int) -> None:
        if self._room is None or self._asked:
            return
        self._asked = size
        if not self._room.ask(size, self._granted):
            self._waits = True
            if not self._transport.is_closing():
                self._transport.pause_reading()

    def _granted(self) -> None:
        self._waits = False
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _leave(self) -> None:
        """Give back the room, or ask for it no more."""
        asked, self._asked = self._asked, 0
        if not asked or self._room is None:
            return
        if self._waits:
            self._granted()
            self._room.forget(self._granted)
        else:
            self._room.give(asked)

    # Ends of an exchange

    def _finish(self) -> None:
        future = self._future
        self._future = None
        if self._decoder is not None:
            try:
                self._decoder.finish()
            except DecodingError as error:
                self._future = future
                self._fail(HttpProtocolError(self._where, str(error)))
                return
            self._decoder = None
        self._used = True
        # With bytes of the request unsent the peer answered without reading it all: the next request would
        # follow those.
        if self._keep_alive and not self._excess and not self._transport.get_write_buffer_size():
            self.ready = True
        else:
            # Not close(), which would linger over unsent bytes and TLS farewells.
            self._closing = True
            self._transport.abort()
        if future is not None and not future.done():
            body = self._body
            future.set_result(
                HttpResponse(
                    self._status,
                    self._headers,
                    body if type(body) is bytes else bytes(body),
                    self._target.url,
                )
            )
        self._body = b""
        self._leave()

    def _fail(self, error: HttpError) -> None:
        future = self._future
        self._future = None
        self.ready = False
        self._body = b""
        self._decoder = None
        self._closing = True
        self._transport.abort()
        self._leave()
        if future is not None and not future.done():
            future.set_exception(error)

    def _explained(self, error: httptools.HttpParserError) -> HttpError:
        """Why parsing stopped: our own refusal in a callback, or a peer that does not speak HTTP."""
        cause = error.__context__
        if isinstance(cause, HttpError):
            return cause
        if isinstance(cause, DecodingError):
            return HttpProtocolError(self._where, str(cause))
        return HttpProtocolError(self._where, f"the response is not HTTP: {error}")

    # The timer

    def _move_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._deadline
        self._timer = self._loop.call_at(self._deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        if self._loop.time() < self._deadline:
            self._move_timer()
        elif self._future is not None:
            self._fail(
                HttpTimeout(
                    self._where, phase="total", seconds=self._seconds, doing="waiting for the response of"
                )
            )
        elif not self._closing:
            self._closing = True
            self.ready = False
            self._transport.close()

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._timer_at = math.inf


def _size(fields: dict[bytes, bytes]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in fields.items())
