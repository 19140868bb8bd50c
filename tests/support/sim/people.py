"""Who uses the system from outside: senders of events, applications that register, operators.

They try again as such clients do, and write down what they were told.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from inngest.api.answers import ApiError
from inngest.core.errors import StoreError
from inngest.core.model.functions import Function
from inngest.core.timing.times import rfc3339
from sim.plan import Planned
from sim.process import EPOCH
from sim.programs import WAIT, Leaf
from sim.truth import Registry, Sent

if TYPE_CHECKING:
    from sim.application import Application
    from sim.world import World

_encode = msgspec.json.encode
_decode = msgspec.json.decode
_PATIENCE = 20.0


class People:
    def __init__(self, world: World, random: Random) -> None:
        self._world = world
        self._random = random
        self.busy = 0

    def do(self, work: Any) -> None:
        """Let somebody do something, which is waited for at the end."""
        self.busy += 1

        async def done() -> None:
            try:
                await work
            finally:
                self.busy -= 1

        self._world.spawn(done())

    async def ask(
        self, service: str, method: str, url: str, body: bytes, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """A request to any process with the service; status 0 if no answer came."""
        world, random = self._world, self._random
        nodes = [node for node in world.nodes if service in node.services and node.serving]
        if not nodes:
            await asyncio.sleep(0.05)
            return 0, b""
        node = random.choice(nodes)
        try:
            async with asyncio.timeout(_PATIENCE):
                await asyncio.sleep(random.random() * 0.005)
                status, answer = await node.handle(method, url, headers or {}, body)
                await asyncio.sleep(random.random() * 0.005)
        except (ConnectionError, TimeoutError):
            return 0, b""
        if not world.faults.healed and random.random() < world.lost_replies:
            world.faults.counts["http reply lost"] += 1
            return 0, b""
        if status == 500:
            world.violate(0, "http-500", f"{method} {url}: {answer[:200]!r}")
        return status, answer

    async def _until(self, attempt: Callable[[], Any], tries: int = 200) -> tuple[int, bytes]:
        """Try again for as long as there is no answer, or one that says so."""
        status, answer = 0, b""
        for number in range(tries):
            await self._world.dawn()
            status, answer = await attempt()
            if status and status not in {500, 502, 503}:
                break
            await asyncio.sleep(self._random.random() * min(0.2 * 2 ** min(number, 5), 5))
        return status, answer

    # -- events --

    async def send(self, planned: Planned) -> None:
        """Send an event until it is known to be accepted or refused."""
        world = self._world
        sent = Sent(planned.name, planned.data, planned.external_id, bad=bool(planned.raw))
        world.truth.sent.append(sent)
        event: dict[str, Any] = {"name": planned.name, "data": planned.data}
        if planned.external_id:
            event["id"] = planned.external_id
        body = planned.raw or _encode(event)
        headers = {}
        if self._random.random() < 0.7:
            seed = b64encode(self._random.randbytes(10)).decode()
            headers["x-inngest-event-id-seed"] = f"{EPOCH + world.now()},{seed}"

        async def attempt() -> tuple[int, bytes]:
            sent.tries += 1
            return await self.ask("event-api", "POST", "/e/key", body, headers)

        sent.answer, answer = await self._until(attempt)
        if sent.answer == 200:
            sent.ids = _decode(answer)["ids"]

    async def spoil(self, body: bytes) -> None:
        """Put something into the stream that nobody can read."""
        self._world.truth.garbage.add(body)
        await self._world.dawn()
        nodes = [node for node in self._world.nodes if node.serving]
        if nodes and (process := self._random.choice(nodes).process) is not None:
            with suppress(ConnectionError, StoreError):
                await process.ask(lambda: self._world.stores.stream.publish([body]))

    def waited(self, run: str, leaf: Leaf) -> None:
        """A run waits for something that only happens if somebody does it."""
        world, random = self._world, self._random
        if world.faults.healed and random.random() < 0.5:
            return
        if random.random() < 0.25:
            return
        seconds = random.random() * leaf.seconds * 1.3

        async def later() -> None:
            await asyncio.sleep(seconds)
            if leaf.op == WAIT:
                await self.send(Planned(0, "sim/go", {"go": f"{run}/{leaf.id}", "n": 0, "key": "a"}))
            else:
                await self._signal(f"signal/{leaf.id}", f"{run}/{random.random()}")

        self.do(later())

    async def _signal(self, name: str, value: str) -> None:
        body = _encode({"signal": name, "data": value})
        status, answer = await self.ask("core-api", "POST", "/v1/signals", body)
        run = _decode(answer)["data"]["run_id"] if status == 200 else ""
        self._world.truth.signals.append((name, value, run))

    # -- applications --

    async def register(self, app: Application) -> None:
        """Until it is done; the registration is that of the moment of the call."""
        body = app.registration()
        status, answer = await self._until(lambda: self.ask("core-api", "POST", "/fn/register", body))
        if status != 200:
            self._world.violate(0, "not-registered", f"{app.name}: {status} {answer[:300]!r}")

    # -- operators --

    async def cancel_one(self) -> None:
        world = self._world
        alive = [run for run in world.truth.created if run not in world.truth.ended]
        if not alive:
            return
        run = self._random.choice(alive)
        world.truth.cancelling.add(run)
        status, _ = await self._until(lambda: self.ask("core-api", "DELETE", f"/v1/runs/{run}", b""), 5)
        if status == 200:
            world.truth.cancelled[run] = world.now()

    async def cancel_many(self) -> None:
        world, random = self._world, self._random
        app, fn = random.choice(world.plan.functions)
        before = EPOCH + world.now()
        condition = random.choice(("", 'event.data.key == "a"'))
        order: dict[str, Any] = {
            "app_id": app,
            "function_id": fn.slug,
            "started_before": rfc3339(before),
            **({"if": condition} if condition else {}),
        }
        kept = {"slug": fn.slug, "before": before, "condition": condition, "asked": world.now(), "done": 0}
        world.truth.bulk.append(kept)
        body = _encode(order)
        status, answer = await self._until(lambda: self.ask("core-api", "POST", "/v1/cancellations", body), 8)
        if status == 200:
            kept["done"] = world.now()
        elif status not in {0, 404, 503}:  # another process may know of the function a moment later
            world.violate(17, "bulk-refused", f"{status} {answer[:200]!r}")

    async def rerun(self) -> None:
        world, random = self._world, self._random
        ended = [
            run
            for run in world.truth.ended
            if run in world.truth.created and not world.truth.created[run].run.cron
        ]
        nodes = [node for node in world.nodes if node.serving and node.context is not None]
        if not ended or not nodes:
            return
        original = random.choice(ended)
        try:
            new = await random.choice(nodes).rerun(original)
        except (ConnectionError, StoreError, ApiError):
            return
        world.truth.reruns.append((original, new))


def subscribed(versions: list[Registry], since: int, until: int) -> list[dict[str, Function]]:
    """The registries that were in force at any time between two, or may have been."""
    found: list[dict[str, Function]] = []
    begun, live = 0, dict[str, Function]()
    for following in versions:
        if begun <= until and following.at > since:
            found.append(live)
        begun, live = following.begun, following.live
    return [*found, live] if begun <= until else found
