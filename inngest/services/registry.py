"""What is registered, as each service sees it: a copy in memory, renewed when the engine store says so."""

from __future__ import annotations

from inngest.core.decisions.matching import trigger_names
from inngest.core.model.events import INVOKED, Event
from inngest.core.model.functions import App, Function
from inngest.loops.background import forever, persist
from inngest.ports.engine import EngineStore, Registry

_WATCH_SECONDS = 30.0
_NOBODY: set[str] = set()


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

    def _take(self, registry: Registry) -> None:
        self.version = registry.version
        self.apps = registry.apps
        self.functions = registry.functions
        live = [fn for fn in registry.functions.values() if not fn.archived]
        self._slugs = {fn.slug: fn for fn in live}
        self._triggers = {}
        for fn in live:
            for name in dict.fromkeys(trigger.event for trigger in fn.triggers if trigger.event):
                self._triggers.setdefault(name, []).append(fn)

    def by_slug(self, slug: str) -> Function | None:
        """A function by its slug or by its UUID, unless it is archived."""
        fn = self._slugs.get(slug) or self.functions.get(slug)
        return fn if fn is not None and not fn.archived else None

    def triggered(self, event: Event) -> tuple[list[str], list[Function]]:
        """The trigger names that an event has, and the functions with one of them; expressions are not looked
        at.
        """
        names = self._names.get(event.name)
        if names is None:
            names = trigger_names(event.name)
            if len(self._names) < 10_000:
                self._names[event.name] = names
        found: list[Function] = []
        for name in names:
            if functions := self._triggers.get(name):
                found += [fn for fn in functions if fn not in found]
        return names, found

    def cancelled_by(self, event: Event) -> set[str]:
        """The names of events that cancel a run which ``event`` may start."""
        functions = self.triggered(event)[1]
        if not functions:
            return _NOBODY
        return {cancel.event for fn in functions for cancel in fn.cancel}

    def invoked(self, event: Event) -> Function | None:
        """The target of an invocation."""
        target = event.meta.get("fn_id") if event.name == INVOKED else None
        return self.by_slug(target) if isinstance(target, str) else None
