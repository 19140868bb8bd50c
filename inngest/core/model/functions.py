"""Functions as they are registered: the typed form of one element of ``functions[]`` (wire protocol section
1.8).

``inngest.core.sdk.registration`` builds and checks them; everything else only reads.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal

from msgspec import Struct

from inngest.core.expr import Expression, compile_expression

DEFAULT_CONCURRENCY = 1000
DEFAULT_RETRIES = 4
MAX_RETRIES = 20
UNLIMITED = 0


class Trigger(Struct, omit_defaults=True):
    event: str = ""
    expression: str = ""
    cron: str = ""
    jitter: int = 0  # ms


class Concurrency(Struct, omit_defaults=True):
    """At most ``limit`` steps at once among those with the same key; 0 for no limit."""

    limit: int
    key: str = ""
    scope: Literal["fn", "env", "account"] = "fn"


class Throttle(Struct, omit_defaults=True):
    limit: int
    period: int  # ms
    burst: int = 0
    key: str = ""


class RateLimit(Struct, omit_defaults=True):
    limit: int
    period: int  # ms
    key: str = ""


class Debounce(Struct, omit_defaults=True):
    period: int  # ms
    key: str = ""
    timeout: int = 0  # ms; 0 for none


class Batch(Struct, omit_defaults=True):
    max_size: int
    timeout: int  # ms
    key: str = ""
    condition: str = ""


class Cancel(Struct, omit_defaults=True):
    event: str
    condition: str = ""
    timeout: str = ""  # duration or date, read when a run is scheduled


class Singleton(Struct, omit_defaults=True):
    mode: Literal["skip", "cancel"]
    key: str = ""


class Function(Struct, dict=True, omit_defaults=True):
    """A registered function. ``id`` is stable over re-registrations; ``slug`` is the id the SDK gave it."""

    id: str
    slug: str
    name: str
    app: str  # the app's name, which is its id
    app_id: str
    url: str
    triggers: list[Trigger]
    retries: int = DEFAULT_RETRIES
    concurrency: list[Concurrency] = []
    run_concurrency: Concurrency | None = None
    throttle: Throttle | None = None
    rate_limit: RateLimit | None = None
    debounce: Debounce | None = None
    batch: Batch | None = None
    priority: str = ""
    cancel: list[Cancel] = []
    start_timeout: int = 0  # ms; 0 for none
    finish_timeout: int = 0
    singleton: Singleton | None = None
    version: int = 1
    archived: bool = False
    paused: bool = False
    whole_state: bool = False  # its SDK cannot fetch what is too large to be sent, as Go's

    @property
    def max_attempts(self) -> int:
        return self.retries + 1

    @cached_property
    def limits(self) -> tuple[int, ...]:
        """Capacity by cell index: the step limits, then the run limit (see ``runs.Cell``)."""
        steps = [c.limit for c in self.concurrency] or [DEFAULT_CONCURRENCY]
        run = self.run_concurrency.limit if self.run_concurrency else UNLIMITED
        return (*steps, run)

    @cached_property
    def _expressions(self) -> dict[str, Expression]:
        return {}

    def expression(self, source: str) -> Expression:
        """One of this function's own expressions over ``event``, compiled once."""
        compiled = self._expressions.get(source)
        if compiled is None:
            compiled = self._expressions[source] = compile_expression(source)
        return compiled


class App(Struct, omit_defaults=True):
    """An application: one registered URL with its functions. ``signed_by`` is the fingerprint (see `keyring`)
    of the signing key that it registered with.
    """

    id: str
    name: str
    url: str
    sdk_language: str = ""
    sdk_version: str = ""
    framework: str = ""
    version: str = ""
    checksum: str = ""
    synced: int = 0
    error: str = ""
    archived: bool = False
    signed_by: str = ""
