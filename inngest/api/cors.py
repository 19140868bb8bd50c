"""Cross-origin requests: browsers may send events and look at runs from anywhere (wire protocol 2.1).

Under the wildcard a browser shows no origin what was asked with cookies, so that a login is safe from it.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

_MAX_AGE_SECONDS = 3600
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE, OPTIONS",
    "Access-Control-Max-Age": str(_MAX_AGE_SECONDS),
}


@web.middleware
async def cors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Lets every origin read every answer, and answers preflights. Goes before all other middleware."""
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        asked = request.headers.get("Access-Control-Request-Headers", "*")
        headers = {**_PREFLIGHT, "Access-Control-Allow-Headers": asked, "Access-Control-Allow-Origin": "*"}
        return web.Response(status=204, headers=headers)
    response = await handler(request)
    if not response.prepared:
        response.headers["Access-Control-Allow-Origin"] = "*"
    return response
