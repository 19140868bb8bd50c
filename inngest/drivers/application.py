"""Calls an application over HTTP, signed if there is a key (wire protocol sections 1.2, 1.3 and 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from inngest.core.json.jcs import InvalidJson, canonicalise
from inngest.core.model.functions import Function
from inngest.core.model.runs import Item, Run
from inngest.core.policy import CALL_SECONDS
from inngest.core.sdk.calls import call_request
from inngest.core.sdk.responses import Answer, failure, read
from inngest.core.sdk.signing import sign
from inngest.core.sdk.traces import span_id, trace_id
from inngest.drivers.http import AnswerLost, HttpClient, HttpError, HttpTooLarge
from inngest.drivers.presence import Presence


class HttpDriver:
    """See `inngest.ports.driver.Driver`.

    Args:
        client: to be shared with nobody who closes it.
        clock: Unix epoch milliseconds, as the engine store has them.
        new_id: makes the ids of requests.
        signing_keys: the first one signs.
        kind: ``dev`` or ``cloud``, which applications compare with their own mode.
        timeout: seconds for one call.
    """

    def __init__(
        self,
        client: HttpClient,
        *,
        clock: Callable[[], int],
        new_id: Callable[[], str],
        signing_keys: Sequence[str] = (),
        kind: str = "dev",
        timeout: float = CALL_SECONDS,
    ) -> None:
        self._client = client
        self._clock = clock
        self._new_id = new_id
        self._key = signing_keys[0] if signing_keys else ""
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
        if self._key:
            try:
                body = canonicalise(body)
            except InvalidJson as error:  # what was stored by another release, or damaged
                return failure(f"The run's state cannot be signed: {error}", no_retry=True)
            headers.append(("X-Inngest-Signature", sign(body, self._key, self._clock() // 1000)))
        try:
            response = await self._client.request("POST", request.url, headers, body, timeout=self._timeout)
        except AnswerLost as error:
            return failure(f"{error}; the step may have run")
        except HttpError as error:
            self._presence.failed(fn, error)
            return failure(str(error), no_retry=isinstance(error, HttpTooLarge))
        if response.status == 401 and self._key:
            self._presence.refused(fn)
        elif self._presence.troubled:
            self._presence.answered(fn)
        return read(response.status, response.headers, response.body, self._clock())

    async def close(self) -> None:
        await self._client.close()


def _traceparent(run_id: str, request_id: str) -> str:
    """W3C trace context: all calls of a run share the trace id under which its trace is shown."""
    return f"00-{trace_id(run_id)}-{span_id(request_id)}-01"
