"""What is registered, as each service sees it: a copy in memory, renewed when the engine store says so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from inngest.core.decisions.matching import trigger_names
from inngest.core.model.events import INVOKED, Event
from inngest.core.model.functions import App, Function
from inngest.loops.background import forever, persist
from inngest.ports.engine import EngineStore, Registered

_WATCH_SECONDS = 30.0
_MAX_NAMES = 4096
"""Of events, whose triggers are remembered."""
_NOBODY: tuple[Function, ...] = ()


class RegistryCache:
    """Apps and functions, by id, by slug, and by the event names that trigger them."""

    def __init__(self, engine: EngineStore) -> None:
        self._engine = engine
        self.version = -1
        self.apps: dict[str, App] = {}
        self.functions: dict[str, Function] = {}
        self._slugs: dict[str, Function] = {}
        self._triggers: dict[str, list[Function]] = {}
        self._names: dict[str, list[str]] = {}
        self._cancels: dict[str, list[Function]] = {}
        self._news = asyncio.Event()

    async def refresh(self) -> None:
        self._take(await self._engine.registry())

    async def load(self) -> None:
        """Return when the registry is known. Raises `StoreUnusable`."""
        await persist("registry.load", self.refresh, stubborn=True)

    async def catch_up(self) -> None:
        """Read it again if it has changed. Raises `StoreUnavailable`."""
        if await self._engine.wait_registry(self.version, 0) != self.version:
            await self.refresh()

    async def watch(self) -> None:
        """Keep up with the store, for ever. Raises `StoreUnusable`."""
        await forever("registry.watch", self._follow)

    async def _follow(self) -> None:
        if await self._engine.wait_registry(self.version, _WATCH_SECONDS) != self.version:
            await self.refresh()

    def _take(self, registry: Registered) -> None:
        self.version = registry.version
        self.apps = registry.apps
        self.functions = registry.functions
        live = [fn for fn in registry.functions.values() if not fn.archived]
        self._slugs = {fn.slug: fn for fn in live}
        self._triggers, self._cancels, self._names = {}, {}, {}
        for fn in registry.functions.values():  # runs of archived ones go on
            for name in dict.fromkeys(cancel.event for cancel in fn.cancel):
                self._cancels.setdefault(name, []).append(fn)
        for fn in live:
            for name in dict.fromkeys(trigger.event for trigger in fn.triggers if trigger.event):
                self._triggers.setdefault(name, []).append(fn)

        news, self._news = self._news, asyncio.Event()
        news.set()

    async def newer(self, version: int) -> None:
        """Return when another version than this is known."""
        while self.version == version:
            await self._news.wait()

    def by_slug(self, slug: str) -> Function | None:
        """A function by its slug or by its UUID, unless it is archived."""
        fn = self._slugs.get(slug) or self.functions.get(slug)
        return fn if fn is not None and not fn.archived else None

    def signed_by(self, app: str) -> str:
        """The fingerprint of the key that an app registered with; empty if it is unknown."""
        found = self.apps.get(app)
        return found.signed_by if found is not None else ""

    def triggered(self, event: Event) -> tuple[list[str], list[Function]]:
        """The trigger names that both an event and functions have, and these functions; expressions are not
        looked at.
        """
        names = self._names.get(event.name)
        if names is None:
            # Senders choose names: of those that no function has, nothing is kept.
            names = [name for name in trigger_names(event.name) if name in self._triggers]
            if len(self._names) >= _MAX_NAMES:
                self._names.clear()
            self._names[event.name] = names
        found: list[Function] = []
        for name in names:
            if functions := self._triggers.get(name):
                found += [fn for fn in functions if fn not in found]
        return names, found

    def cancelled(self, event: Event) -> Sequence[Function]:
        """The functions whose runs an event of this name may cancel."""
        return self._cancels.get(event.name, _NOBODY)

    def invoked(self, event: Event) -> Function | None:
        """The target of an invocation."""
        target = event.meta.get("fn_id") if event.name == INVOKED else None
        return self.by_slug(target) if isinstance(target, str) else None
