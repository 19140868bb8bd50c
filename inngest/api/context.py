"""What the APIs are given by the process that serves them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web
from msgspec.structs import replace

from inngest.core.decisions.moment import Moment
from inngest.core.model.functions import App, Function
from inngest.core.model.transition import Committed, Transition
from inngest.core.policy import DEFAULT_POLICY, LEASE, Policy
from inngest.ports.data import DataStore
from inngest.ports.engine import EngineStore
from inngest.ports.stream import EventStream


class Registered(Protocol):
    """What is registered, as of lately. ``by_slug`` also takes a function's UUID; archived ones it does not
    find.
    """

    @property
    def apps(self) -> Mapping[str, App]: ...
    @property
    def functions(self) -> Mapping[str, Function]: ...
    def by_slug(self, slug: str) -> Function | None: ...


class Synced(Protocol):
    """How asking an application to register went."""

    @property
    def ok(self) -> bool: ...
    @property
    def code(self) -> str: ...
    @property
    def message(self) -> str: ...


class Limits:
    """The policy of each function: the server's, or with what a test suite has set for one of them."""

    def __init__(self, default: Policy = DEFAULT_POLICY) -> None:
        self._default = default
        self._own: dict[str, Policy] = {}

    def of(self, fn_id: str) -> Policy:
        return self._own.get(fn_id, self._default)

    def set_max_steps(self, fn_id: str, limit: int | None) -> None:
        """None: as the server has it."""
        self._set(fn_id, max_steps=self._default.max_steps if limit is None else limit)

    def set_max_state(self, fn_id: str, limit: int | None) -> None:
        """In bytes. None: as the server has it."""
        self._set(fn_id, max_state=self._default.max_state if limit is None else limit)

    def _set(self, fn_id: str, **changes: int) -> None:
        policy = replace(self.of(fn_id), **changes)
        if policy == self._default:
            self._own.pop(fn_id, None)
        else:
            self._own[fn_id] = policy


def _nobody(_: web.Request) -> bool:
    return False


def _no_error(_: str) -> str:
    return ""


@dataclass
class ApiContext:
    """The backing systems, time, identity and keys of the server, and what it does for the APIs.

    ``clock`` tells Unix epoch milliseconds. ``sync_app`` asks the application at a URL to register.
    ``session`` tells whether a request comes from somebody who is logged in, who then needs no signing key.
    ``workers`` lists the connected workers as GraphQL shows them. ``lease`` is how much longer (ms) an item
    belongs to its executor once its application has reported progress. ``observe`` is told of each transition
    that was committed. ``app_error`` says what keeps the app at a URL from answering, as far as this process
    has seen.
    """

    engine: EngineStore
    data: DataStore
    stream: EventStream
    registry: Registered
    clock: Callable[[], int]
    new_id: Callable[[], str]
    sync_app: Callable[[str], Awaitable[Synced]]
    signing_keys: tuple[str, ...] = ()
    event_keys: tuple[str, ...] = ()
    dev: bool = True
    version: str = ""
    limits: Limits = field(default_factory=Limits)
    start_options: Mapping[str, Any] = field(default_factory=dict)
    workers: Callable[[], Sequence[Mapping[str, Any]]] = tuple
    session: Callable[[web.Request], bool] = _nobody
    lease: int = LEASE
    observe: Callable[[Transition, Committed], None] | None = None
    app_error: Callable[[str], str] = _no_error

    async def commit(self, transitions: Sequence[Transition]) -> list[Committed]:
        """As of `EngineStore.commit`, telling ``observe`` of each."""
        results = await self.engine.commit(transitions)
        if self.observe is not None:
            for transition, committed in zip(transitions, results, strict=True):
                self.observe(transition, committed)
        return results

    def moment(self) -> Moment:
        return Moment(now=self.clock(), new_id=self.new_id, slack=self.engine.slack())
