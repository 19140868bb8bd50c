"""Errors as JSON, whatever happened: SDKs decode every answer."""

from __future__ import annotations

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from inngest.api.answers import RETRY_AFTER, ApiError, error_answer
from inngest.core.errors import StoreRefused, StoreUnavailable

log = structlog.get_logger("inngest.api")


@web.middleware
async def json_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns what handlers raise into error envelopes. What was not meant for the client goes to the log."""
    try:
        return await handler(request)
    except ApiError as error:
        response = error_answer(error.status, error.message, code=error.code, data=error.data)
        if error.status == 503:
            response.headers["Retry-After"] = RETRY_AFTER
        return response
    except web.HTTPException as error:
        if error.status < 400:
            raise
        response = error_answer(error.status, _explanation(request, error))
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response
    except StoreUnavailable as error:
        log.error("a backing system does not answer", action="api.unavailable", error=str(error))
        response = error_answer(503, "A backing system of the server does not answer; try again")
        response.headers["Retry-After"] = RETRY_AFTER
        return response
    except StoreRefused as error:
        log.warning("a backing system cannot take this", action="api.refused", error=str(error))
        return error_answer(400, "Something in this request cannot be stored: a number, a text or its depth")
    except Exception:
        log.exception("request failed", action="api.failed", method=request.method, path=request.path)
        return error_answer(500, "Internal server error")


def _explanation(request: web.Request, error: web.HTTPException) -> str:
    if isinstance(error, web.HTTPNotFound):
        return f"There is nothing at {request.path}"
    if isinstance(error, web.HTTPMethodNotAllowed):
        return (
            f"{request.path} does not take {request.method}, only {', '.join(sorted(error.allowed_methods))}"
        )
    return error.reason
