"""Calls an application over HTTP, signed if there is a key (wire protocol sections 1.2, 1.3 and 3.1)."""

from __future__ import annotations

from collections.abc import Callable

from inngest.core.json.jcs import InvalidJson, canonicalise
from inngest.core.model.functions import Function
from inngest.core.model.runs import Item, Run
from inngest.core.policy import CALL_SECONDS
from inngest.core.sdk.calls import call_request
from inngest.core.sdk.keyring import Keyring
from inngest.core.sdk.responses import Answer, failure, read
from inngest.core.sdk.signing import sign
from inngest.core.sdk.traces import span_id, trace_id
from inngest.drivers.http import AnswerLost, HttpClient, HttpError, HttpResponse, HttpTooLarge
from inngest.drivers.presence import Presence

UNAUTHORIZED = 401


def _unknown(_: str) -> str:
    return ""


class HttpDriver:
    """See `inngest.ports.driver.Driver`.

    Args:
        client: to be shared with nobody who closes it.
        clock: Unix epoch milliseconds, as the engine store has them.
        new_id: makes the ids of requests.
        keys: by which calls are signed, if there are any.
        registered: tells the fingerprint of the key that an app registered with, empty if that is unknown.
        kind: ``dev`` or ``cloud``, which applications compare with their own mode.
        timeout: seconds for one call.
    """

    def __init__(
        self,
        client: HttpClient,
        *,
        clock: Callable[[], int],
        new_id: Callable[[], str],
        keys: Keyring | None = None,
        registered: Callable[[str], str] = _unknown,
        kind: str = "dev",
        timeout: float = CALL_SECONDS,
    ) -> None:
        self._client = client
        self._clock = clock
        self._new_id = new_id
        self._keys = keys if keys is not None and keys.keys else None
        self._registered = registered
        self._kind = kind
        self._timeout = timeout
        self._presence = Presence()

    async def call(self, run: Run, fn: Function, item: Item) -> Answer:
        request_id = self._new_id()
        request = call_request(run, fn, item, request_id, self._clock())
        body = request.body
        headers = [
            ("Content-Type", "application/json"),
            ("X-Inngest-Server-Kind", self._kind),
            ("X-Run-ID", run.id),
            ("x-request-id", request_id),
            ("x-inngest-job-id", item.job),
            ("x-inngest-generation-id", str(item.epoch)),
            ("x-inngest-req-version", str(run.request_version)),
            ("X-Inngest-Step-ID", request.step),
            ("traceparent", _traceparent(run.id, request_id)),
        ]
        try:
            if self._keys is None:
                response = await self._send(request.url, headers, body)
            else:
                try:
                    body = canonicalise(body)
                except InvalidJson as error:  # what was stored by another release, or damaged
                    return failure(f"The run's state cannot be signed: {error}", no_retry=True)
                response = await self._send_signed(self._keys, fn.app_id, request.url, headers, body)
        except AnswerLost as error:
            return failure(f"{error}; the step may have run")
        except HttpError as error:
            self._presence.failed(fn, error)
            return failure(str(error), no_retry=isinstance(error, HttpTooLarge))
        if response.status == UNAUTHORIZED and self._keys is not None:
            self._presence.refused(fn)
        elif self._presence.troubled:
            self._presence.answered(fn)
        return read(response.status, response.headers, response.body, self._clock())

    async def _send(self, url: str, headers: list[tuple[str, str]], body: bytes) -> HttpResponse:
        return await self._client.request("POST", url, headers, body, timeout=self._timeout)

    async def _send_signed(
        self, keys: Keyring, app: str, url: str, headers: list[tuple[str, str]], body: bytes
    ) -> HttpResponse:
        """Raises as the client does. An application that refuses a key has not begun (see `keyring`)."""
        registered = self._registered(app)
        refused: HttpResponse | None = None
        for key in keys.order(app, registered):
            signature = ("X-Inngest-Signature", sign(body, key, self._clock() // 1000))
            response = await self._send(url, [*headers, signature], body)
            if response.status != UNAUTHORIZED:
                if refused is not None:
                    keys.learn(app, registered, key)
                return response
            refused = refused or response
        assert refused is not None
        return refused

    async def close(self) -> None:
        await self._client.close()


def _traceparent(run_id: str, request_id: str) -> str:
    """W3C trace context: all calls of a run share the trace id under which its trace is shown."""
    return f"00-{trace_id(run_id)}-{span_id(request_id)}-01"
