"""The mutations of GraphQL (wire protocol section 6.5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from inngest.api.answers import ApiError
from inngest.api.context import ApiContext
from inngest.api.nodes import Node, Nodes
from inngest.api.operations import cancel_run, invoke, remove_app, rerun_run
from inngest.core.json import border
from inngest.core.json.jcs import InvalidJson
from inngest.core.model.functions import App
from inngest.core.sdk.registration import normalise_url


class Mutations:
    """Resolvers: each takes the resolve info and the arguments of its field, in snake case."""

    def __init__(self, ctx: ApiContext) -> None:
        self._ctx = ctx
        self._nodes = Nodes(ctx)

    def fields(self) -> dict[str, Callable[..., Any]]:
        return {
            "createApp": self.create_app,
            "updateApp": self.update_app,
            "deleteApp": self.delete_app,
            "deleteAppByName": self.delete_app_by_name,
            "invokeFunction": self.invoke_function,
            "cancelRun": self.cancel_run,
            "rerun": self.rerun,
        }

    async def create_app(self, _: Any, *, input: Mapping[str, Any]) -> Node:  # noqa: A002 (as in the schema)
        return self._nodes.app(await self._sync(input["url"]))

    async def update_app(self, _: Any, *, input: Mapping[str, Any]) -> Node:  # noqa: A002 (as in the schema)
        before = self._app(input["id"])
        app = await self._sync(input["url"])
        if app.id != before.id:
            raise ApiError(400, f"At {input['url']} there is another app: {app.name!r}")
        return self._nodes.app(app)

    async def _sync(self, url: str) -> App:
        outcome = await self._ctx.sync_app(url)
        if not outcome.ok:
            raise ApiError(400, outcome.message or outcome.code, code=outcome.code)
        registry = await self._ctx.engine.registry()  # not the copy, which may be a moment older
        wanted = normalise_url(url)
        apps = [app for app in registry.apps.values() if normalise_url(app.url) == wanted]
        if not apps:
            raise ApiError(404, f"No app has registered from {url}")
        return max(apps, key=lambda app: app.synced)

    def _app(self, app_id: str) -> App:
        app = self._ctx.registry.apps.get(app_id)
        if app is None or app.archived:
            raise ApiError(404, f"App not found: {app_id}")
        return app

    async def delete_app(self, _: Any, *, id: str) -> str:  # noqa: A002 (as in the schema)
        await remove_app(self._ctx, self._app(id))
        return id

    async def delete_app_by_name(self, _: Any, *, name: str) -> bool:
        apps = self._ctx.registry.apps.values()
        app = next((app for app in apps if app.name == name and not app.archived), None)
        if app is None:
            return False
        await remove_app(self._ctx, app)
        return True

    async def invoke_function(
        self,
        _: Any,
        *,
        function_slug: str,
        data: Mapping[str, Any] | None = None,
        user: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> bool:
        try:
            event = border.dump({"data": data or {}, "user": user or {}, "meta": meta})
        except InvalidJson as error:
            raise ApiError(400, str(error)) from None
        await invoke(self._ctx, function_slug, event)
        return True

    async def cancel_run(self, _: Any, *, run_id: str) -> Node:
        return self._nodes.run(await cancel_run(self._ctx, run_id))

    async def rerun(self, _: Any, *, run_id: str, from_step: Mapping[str, Any] | None = None) -> str:
        given = from_step or {}
        if given.get("input") is not None:
            message = "A step cannot be run with another input; leave `input` out to run it as it was"
            raise ApiError(400, message, code="step_input_unsupported")
        return await rerun_run(self._ctx, run_id, given.get("stepID", ""))
