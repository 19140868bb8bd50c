"""All routes of the core API."""

from __future__ import annotations

from aiohttp import web

from inngest.api.auth import protected
from inngest.api.checkpoint import CheckpointApi
from inngest.api.context import ApiContext
from inngest.api.dead_letters import DeadLettersApi
from inngest.api.dev import DevApi
from inngest.api.graphql import GraphQLApi
from inngest.api.rest_v1 import RestV1
from inngest.api.run_list import RunList
from inngest.api.v0 import RestV0


def core_routes(ctx: ApiContext) -> list[web.RouteDef]:
    """REST v0 and v1, GraphQL and what development tools ask; all that tells or changes anything of runs
    takes a key (see `auth`).
    """
    dev = DevApi(ctx)
    kept = [
        *RestV1(ctx).routes(),
        *RunList(ctx).routes(),
        *DeadLettersApi(ctx).routes(),
        *RestV0(ctx).routes(),
        *dev.routes(),
        *GraphQLApi(ctx).routes(),
        *CheckpointApi(ctx).routes(),
    ]
    return [*protected(ctx, kept), *dev.public_routes()]
