"""``POST /e/{key}``: the way in (wire protocol sections 2.1 to 2.4)."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import parse_qsl

import msgspec
import structlog
from aiohttp import web

from inngest.api.answers import RETRY_AFTER, ApiError
from inngest.api.bodies import read_body
from inngest.api.forms import read_multipart
from inngest.api.intake import Intake
from inngest.api.publishing import encoded
from inngest.core.errors import InvalidEvent, StoreUnavailable
from inngest.core.model.events import Event, accept, parse_body
from inngest.core.model.ids import seeded
from inngest.core.policy import MAX_BODY, MAX_EVENT
from inngest.ports.stream import EventStream

log = structlog.get_logger("inngest.event_api", service="event-api")

SEED = "x-inngest-event-id-seed"

_encode = msgspec.json.Encoder().encode


class EventApi:
    """The event endpoint.

    Args:
        stream: an event is accepted when the stream has acknowledged it.
        clock: Unix epoch milliseconds.
        new_id: makes internal ids where the sender gave no seed.
        keys: event keys; in ``dev`` mode none means that any will do.
        max_event: bytes of one event's data.
        max_body: bytes of a request, as the listener has it.
        accepted: told of what was accepted, for the console.
    """

    def __init__(
        self,
        stream: EventStream,
        *,
        clock: Callable[[], int],
        new_id: Callable[[], str],
        keys: Sequence[str] = (),
        dev: bool = True,
        max_event: int = MAX_EVENT,
        max_body: int = MAX_BODY,
        accepted: Callable[[Sequence[Event]], None] | None = None,
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._new_id = new_id
        self._keys = [key.encode() for key in keys]
        self._dev = dev
        self._max_event = max_event
        self._max_body = max_body
        self._accepted = accepted
        self._refused = 0  # requests, since the stream has last taken something
        self.intake = Intake()

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/e/{key}", self.handle), web.post("/e/", self.handle), web.post("/e", self.handle)]

    async def handle(self, request: web.Request) -> web.Response:
        intake = self.intake
        refused = self._check_key(request.match_info.get("key", ""))
        if refused is not None:
            intake.refused["key"] += 1
            return refused
        try:
            body = await _read(request, self._max_body)
            inbound = parse_body(body)
        except web.HTTPRequestEntityTooLarge:
            intake.refused["size"] += 1
            return _answer(413, [], f"Request body is over the max size: {self._max_body} bytes allowed")
        except ApiError as error:
            busy = error.status == 503
            intake.refused["unavailable" if busy else "invalid"] += 1
            response = _answer(error.status, [], error.message)
            if busy:
                response.headers["Retry-After"] = RETRY_AFTER
            return response
        except InvalidEvent as error:
            intake.refused["invalid"] += 1
            return _answer(400, [], str(error))
        now = self._clock()
        seed = request.headers.get(SEED)
        events: list[Event] = []
        problem = ""
        for place, each in enumerate(inbound, start=1):
            internal = (seeded(seed, place, now) if seed else None) or self._new_id()
            try:
                events.append(accept(each, internal, now, self._max_event))
            except InvalidEvent as error:
                intake.refused["invalid"] += 1
                problem = str(error)
                break
        if events:
            try:
                await self._stream.publish(encoded(events, self._stream.largest))
            except ApiError as error:
                intake.refused["size"] += 1
                return _answer(error.status, [], error.message)
            except StoreUnavailable as error:
                intake.refused["unavailable"] += 1
                self._refuse(error)
                response = _answer(
                    503, [], "The event stream does not answer; nothing is known to be accepted, try again"
                )
                response.headers["Retry-After"] = RETRY_AFTER
                return response
            self._accept()
            intake.events += len(events)
            intake.bytes += len(body)
            if self._accepted is not None:
                self._accepted(events)
        ids = [event.id for event in events]
        return _answer(400, ids, problem) if problem else _answer(200, ids)

    def _refuse(self, error: StoreUnavailable) -> None:
        """One line when it begins, however many are refused."""
        if not self._refused:
            log.error("events are not accepted", action="event.refused", error=str(error))
        self._refused += 1

    def _accept(self) -> None:
        if self._refused:
            log.warning("events are accepted again", action="event.refused", requests=self._refused)
            self._refused = 0

    def _check_key(self, key: str) -> web.Response | None:
        if not self._keys:
            if self._dev:
                return None if key else _answer(401, None, "Event key is required")
            return _answer(503, None, "Event keys are required to process events securely")
        if not key:
            return _answer(401, None, "Event key is required")
        given = key.encode("utf-8", "surrogatepass")
        # Every key is compared, so that the time tells nothing.
        known = [hmac.compare_digest(given, each) for each in self._keys]
        return None if any(known) else _answer(401, None, "Event key not found")


async def _read(request: web.Request, most: int) -> bytes:
    """The body as JSON. Forms, which some webhooks send, become an object of lists of strings.

    Raises HTTPRequestEntityTooLarge above ``most`` bytes, which need not be the limit of the listener, and
    as `read_body` does.
    """
    body = await read_body(request, most)
    if request.content_type == "multipart/form-data":
        try:
            return _form(await read_multipart(request.headers, body))
        except ValueError as error:
            raise InvalidEvent(f"Multipart form cannot be read: {error}") from None
    # What curl calls a form by default is JSON most of the time.
    if request.content_type == "application/x-www-form-urlencoded" and body.lstrip()[:1] not in {b"{", b"["}:
        return _form(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    return body


def _form(pairs: Iterable[tuple[str, str]]) -> bytes:
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return _encode(fields)


def _answer(status: int, ids: list[str] | None, error: str = "") -> web.Response:
    if ids is None:
        payload: dict[str, object] = {"status": status, "message": "", "error": error}
    elif error:
        payload = {"ids": ids, "status": status, "error": error}
    else:
        payload = {"ids": ids, "status": status}
    return web.Response(status=status, body=_encode(payload), content_type="application/json")
