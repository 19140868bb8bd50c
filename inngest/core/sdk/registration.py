"""Registrations: what an application says about itself and its functions when it syncs.

The SDKs differ in spelling and in what they leave out (wire protocol sections 1.6 and 1.8); what comes out of
here does not.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from msgspec import Struct

from inngest.core.errors import InvalidFunction
from inngest.core.json import border
from inngest.core.json.jcs import InvalidJson, canonical
from inngest.core.json.surrogates import whole
from inngest.core.model.events import name_problem
from inngest.core.model.functions import (
    DEFAULT_RETRIES,
    MAX_RETRIES,
    App,
    Batch,
    Cancel,
    Concurrency,
    Debounce,
    Function,
    RateLimit,
    Singleton,
    Throttle,
    Trigger,
)
from inngest.core.model.ids import app_uuid, function_uuid
from inngest.core.policy import MAX_FUNCTIONS, MAX_LIMIT, MAX_PERIOD, MAX_SLUG, MAX_TEXT
from inngest.core.sdk.registration_fields import Fields
from inngest.core.timing.cron import InvalidCron, parse_cron
from inngest.core.timing.durations import InvalidDuration, parse_timeout
from inngest.core.timing.times import DAY, MINUTE, SECOND

MAX_TRIGGERS = 10
MAX_TRIGGER_LENGTH = 255
MAX_CONCURRENCY = 2
MAX_CANCEL = 5
MAX_BATCH_SIZE = 1000
DEFAULT_BATCH_SIZE = 100
DEFAULT_BATCH_TIMEOUT = MINUTE

_PAUSE = frozenset({"event", "async"})
_WORKERS = frozenset({"ws", "wss"})
_DENIED = ((3, 22, 0), (3, 53, 1))
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "0.0.0.0", "::1"})  # noqa: S104 -- a name to compare with
_OWN_PARAMETERS = frozenset({"fnid", "step", "stepid", "deployid", "probe"})
_DEFAULT_PORTS = {"http": 80, "https": 443}

CONNECT_UNAVAILABLE = (
    "this is a Connect (WebSocket) worker's URL, and Connect is not available on this server yet: "
    "serve the functions over HTTP instead"
)


class Registration(Struct):
    """An application and its functions, checked. ``app.checksum`` identifies the request's content."""

    app: App
    functions: list[Function]


class InvalidRegistration(InvalidFunction):
    """A registration is refused as a whole; ``problems`` has every mistake that was found, at least one.

    ``code`` is theirs if they have the same, else ``config_invalid``.
    """

    def __init__(self, problems: Sequence[InvalidFunction]) -> None:
        codes = {problem.code for problem in problems}
        text = "; ".join(map(str, problems))
        if any(problem.path.startswith("functions[") for problem in problems):
            text = f"At least one function is invalid: {text}"
        super().__init__(text, code=codes.pop() if len(codes) == 1 else "config_invalid")
        self.problems = tuple(problems)


def parse_registration(body: bytes | Mapping[str, Any]) -> Registration:
    """Read a registration: the body of ``POST /fn/register``, or the answer to an in-band sync.

    ``synced`` of the app is left at 0, ``version`` and ``paused`` of the functions at their defaults: these
    depend on what was registered before. Step URLs are kept as they are.

    Raises:
        InvalidRegistration: it is not JSON, lacks something, or one of its functions cannot be used.

    """
    request = _decode(body) if isinstance(body, bytes) else body
    problems: list[InvalidFunction] = []
    top = Fields(request, problems)
    language, version = _sdk(top)
    _refuse_vulnerable(language, version)
    name = top.text("appName", most=MAX_SLUG) or top.text("app_id", most=MAX_SLUG)
    if not name and not problems:
        problems.append(InvalidFunction("App ID required"))
    url = _url(top, "url")
    if _scheme(url) in _WORKERS:
        raise InvalidRegistration(problems)  # every function would only repeat it
    app = App(
        id=app_uuid(name),
        name=name,
        url=url,
        sdk_language=language,
        sdk_version=version,
        framework=top.text("framework", most=MAX_TEXT),
        version=top.text("appVersion", most=MAX_TEXT),
        checksum=_checksum(request),
    )
    functions = _functions(top, app)
    if problems:
        raise InvalidRegistration(problems)
    return Registration(app=app, functions=functions)


def normalise_url(url: str) -> str:
    """The form in which application URLs are compared (wire protocol section 1.6).

    The parameters of calls, a default port, credentials and the fragment are left out, and all names of the
    local host are the same. What is not a URL stays as it is.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return url
    if not parts.hostname:
        return url
    host = "localhost" if parts.hostname in _LOOPBACK else parts.hostname
    if ":" in host:
        host = f"[{host}]"
    if port is not None and port != _DEFAULT_PORTS.get(parts.scheme):
        host = f"{host}:{port}"
    pairs = [pair for pair in parts.query.split("&") if pair]
    query = "&".join(pair for pair in pairs if pair.partition("=")[0].lower() not in _OWN_PARAMETERS)
    return f"{parts.scheme}://{host}{parts.path or '/'}{'?' if query else ''}{query}"


# -- the application


def _decode(body: bytes) -> Mapping[str, Any]:
    try:
        request = border.load(whole(body), "")
    except InvalidJson as error:
        raise InvalidRegistration([InvalidFunction(f"Invalid request: {error}")]) from None
    if not isinstance(request, dict):
        raise InvalidRegistration([InvalidFunction("Invalid request: the body must be a JSON object")])
    return request


def _checksum(request: Mapping[str, Any]) -> str:
    """A digest of the request, whatever the order of its functions: the Go SDK's changes with each start.

    What an SDK reports about its own process is no part of the configuration.
    """
    rest = {
        name: value for name, value in request.items() if name not in {"functions", "featureObservations"}
    }
    functions = request.get("functions")
    try:
        parts = sorted(canonical(fn) for fn in functions) if isinstance(functions, list) else []
        return hashlib.sha256(b"\n".join([canonical(rest), *parts])).hexdigest()
    except InvalidJson as error:
        raise InvalidRegistration([InvalidFunction(f"Invalid request: {error}")]) from None


def _sdk(top: Fields) -> tuple[str, str]:
    """Language and version: ``js:v4.24.0``, or apart, as in the answer to an in-band sync."""
    language, _, version = top.text("sdk", most=MAX_TEXT).partition(":")
    language = language or top.text("sdk_language", most=MAX_TEXT)
    version = version or top.text("sdk_version", most=MAX_TEXT)
    return language.removeprefix("inngest-"), version.removeprefix("v")


def _refuse_vulnerable(language: str, version: str) -> None:
    number = re.match(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})", version)
    if language != "js" or number is None:
        return
    first, last = _DENIED
    if first <= tuple(map(int, number.groups())) <= last:
        message = (
            f"version {version} of the TypeScript SDK is refused, because versions 3.22.0 to 3.53.1 disclose "
            "the application's environment variables to anybody who asks (CVE-2026-42047): "
            "upgrade the npm package inngest to 3.54.0 or later"
        )
        raise InvalidRegistration([InvalidFunction(message, path="sdk", code="sdk_version_denied")])


def _url(fields: Fields, name: str) -> str:
    url = fields.text(name, required=True, most=MAX_TEXT)
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    scheme = _scheme(url)
    if scheme in _WORKERS:
        fields.fail(CONNECT_UNAVAILABLE, name, code="unsupported_protocol")
    elif scheme not in _DEFAULT_PORTS:
        found = f"not {scheme!r}" if scheme else "and this one has none"
        fields.fail(f"the URL's scheme must be http or https, {found}", name, code="unsupported_protocol")
    elif not usable or not url.isprintable() or " " in url:
        fields.fail("is not a usable URL", name)
    return url


def _scheme(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    return scheme.lower() if separator else ""


# -- one function


def _functions(top: Fields, app: App) -> list[Function]:
    functions = []
    places: dict[str, str] = {}
    for entry in top.objects("functions", most=MAX_FUNCTIONS):
        fn = _function(entry, app)
        if fn.slug and (place := places.setdefault(fn.slug, entry.path)) != entry.path:
            entry.rooted(f'{entry.path} "{fn.slug}"').fail(f"is the id of {place} too", "id")
        functions.append(fn)
    return functions


def _function(entry: Fields, app: App) -> Function:
    slug = entry.text("id", most=MAX_SLUG) or _slug(entry.text("name", most=MAX_SLUG))
    fn = entry.rooted(f'{entry.path} "{slug}"' if slug else entry.path)
    if not slug and not fn.has("name"):
        fn.fail("is missing", "id")
    steps, run = _concurrency(fn)
    timeouts = fn.object("timeouts")
    url, retries = _step(fn)
    function = Function(
        id=function_uuid(app.name, slug),
        slug=slug,
        name=fn.text("name", required=True, most=MAX_SLUG),
        app=app.name,
        app_id=app.id,
        url=url,
        triggers=_triggers(fn),
        retries=retries,
        concurrency=steps,
        run_concurrency=run,
        throttle=_throttle(fn),
        rate_limit=_rate_limit(fn),
        debounce=_debounce(fn),
        batch=_batch(fn),
        priority=priority.expression("run") if (priority := fn.object("priority")) else "",
        cancel=[_cancel(cancel) for cancel in fn.objects("cancel", most=MAX_CANCEL)],
        start_timeout=timeouts.duration("start", low=0, default=0) if timeouts else 0,
        finish_timeout=timeouts.duration("finish", low=0, default=0) if timeouts else 0,
        singleton=_singleton(fn),
        whole_state=app.sdk_language == "go",
    )
    _refuse_combinations(fn, function)
    return function


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _step(fn: Fields) -> tuple[str, int]:
    """The URL to call and the retries of the function's only step."""
    raw = fn.get("steps")
    steps = fn.object("steps")
    if raw is None or steps is None or len(raw) != 1:
        if raw is None or steps is not None:
            fn.fail("must hold exactly one step", "steps")
        return "", DEFAULT_RETRIES
    (name,) = raw
    step = steps.object(name, required=True)
    runtime = step.object("runtime", required=True) if step else None
    url = _url(runtime, "url") if runtime else ""
    if step is None:
        return url, DEFAULT_RETRIES
    if retries := step.object("retries"):
        return url, min(retries.whole("attempts", low=0, default=DEFAULT_RETRIES), MAX_RETRIES)
    return url, min(fn.whole("retries", low=0, default=DEFAULT_RETRIES), MAX_RETRIES)


def _triggers(fn: Fields) -> list[Trigger]:
    triggers: list[Trigger] = []
    for fields in fn.objects("triggers", most=MAX_TRIGGERS):
        trigger = _trigger(fields)
        if trigger in triggers and trigger != Trigger():
            fields.fail("is the same as an earlier trigger")
        triggers.append(trigger)
    return triggers


def _trigger(fields: Fields) -> Trigger:
    if fields.has("event") == fields.has("cron"):
        fields.fail("must have either an event or a cron")
        return Trigger()
    if fields.has("event"):
        return Trigger(
            event=_event_name(fields),
            expression=fields.expression("expression"),
        )
    code = "schedule_invalid"
    cron = fields.text("cron", most=MAX_TRIGGER_LENGTH, code=code)
    if cron:
        try:
            parse_cron(cron)
        except InvalidCron as error:
            fields.fail(str(error), "cron", code=code)
    jitter = fields.duration("jitter", low=SECOND, high=5 * MINUTE, default=0, zero=0, code=code)
    return Trigger(cron=cron, jitter=jitter)


def _event_name(fields: Fields) -> str:
    code = "event_name_invalid"
    name = fields.text("event", required=True, most=MAX_TRIGGER_LENGTH, code=code)
    if problem := name_problem(name):
        fields.fail(problem, "event", code=code)
    return name


# -- flow control


def _concurrency(fn: Fields) -> tuple[list[Concurrency], Concurrency | None]:
    """The limits on steps and the one on runs, which only the form ``{fn: [...], step: [...]}`` has."""
    code = "concurrency_limit_invalid"
    if isinstance(fn.get("concurrency"), Mapping):
        both = fn.object("concurrency")
        if both is not None and (both.has("fn") or both.has("step")):
            runs = [_limit(fields, low=1) for fields in both.objects("fn", most=1, bare="limit", code=code)]
            steps = both.objects("step", most=MAX_CONCURRENCY, bare="limit", code=code)
            return [_limit(fields, low=0) for fields in steps], runs[0] if runs else None
    limits = fn.objects("concurrency", most=MAX_CONCURRENCY, bare="limit", code=code)
    return [_limit(fields, low=0) for fields in limits], None


def _limit(fields: Fields, *, low: int) -> Concurrency:
    limit = fields.whole("limit", low=low, high=MAX_LIMIT, code="concurrency_limit_invalid")
    key = fields.expression("key")
    scope = fields.text("scope").lower() or "fn"  # the Go SDK writes Fn
    if scope not in {"fn", "env", "account"}:
        fields.fail(f"must be fn, env or account, not {scope!r}", "scope")
        scope = "fn"
    elif scope != "fn" and not key:
        fields.fail(f"is missing, which the scope {scope} needs", "key")
    return Concurrency(limit=limit, key=key, scope=cast("Literal['fn', 'env', 'account']", scope))


def _throttle(fn: Fields) -> Throttle | None:
    fields = fn.object("throttle")
    if fields is None:
        return None
    return Throttle(
        limit=fields.whole("limit", low=1, high=MAX_LIMIT),
        period=fields.duration("period", low=SECOND, high=MAX_PERIOD),
        burst=fields.whole("burst", low=0, high=MAX_LIMIT, default=0),
        key=fields.expression("key"),
    )


def _rate_limit(fn: Fields) -> RateLimit | None:
    """The rate limit, which ``idempotency`` is a way of writing (wire protocol section 4.8)."""
    fields = fn.object("rateLimit")
    limit = None
    if fields is not None:
        limit = RateLimit(
            limit=fields.whole("limit", low=1, high=MAX_LIMIT),
            period=fields.duration("period", low=1, high=DAY),
            key=fields.expression("key"),
        )
    idempotency = fn.expression("idempotency")
    return RateLimit(limit=1, period=DAY, key=idempotency) if idempotency else limit


def _debounce(fn: Fields) -> Debounce | None:
    fields = fn.object("debounce")
    if fields is None:
        return None
    return Debounce(
        period=fields.duration("period", low=SECOND, high=7 * DAY),
        key=fields.expression("key"),
        timeout=fields.duration("timeout", low=0, default=0),
    )


def _batch(fn: Fields) -> Batch | None:
    fields = fn.object("batchEvents")
    if fields is None:
        return None
    return Batch(
        max_size=fields.whole(
            "maxSize",
            low=2,
            high=MAX_BATCH_SIZE,
            default=DEFAULT_BATCH_SIZE,
            zero=DEFAULT_BATCH_SIZE,  # Go's unset value
            code="batch_size_invalid",
        ),
        timeout=fields.duration(
            "timeout",
            low=SECOND,
            default=DEFAULT_BATCH_TIMEOUT,
            zero=DEFAULT_BATCH_TIMEOUT,
            code="batch_timeout_invalid",
        ),
        key=fields.expression("key", code="batch_key_expression_invalid"),
        condition=fields.expression("if", code="batch_if_expression_invalid"),
    )


def _cancel(fields: Fields) -> Cancel:
    timeout = fields.text("timeout")
    if timeout:
        try:
            parse_timeout(timeout, 0)
        except InvalidDuration as error:
            fields.fail(f"neither a date nor a duration: {error}", "timeout")
    return Cancel(
        event=_event_name(fields),
        condition=fields.expression("if", variables=_PAUSE, restrictive=True),
        timeout=timeout,
    )


def _singleton(fn: Fields) -> Singleton | None:
    fields = fn.object("singleton")
    if fields is None:
        return None
    mode = fields.text("mode", required=True).lower()
    if mode not in {"skip", "cancel"}:
        if mode:
            fields.fail(f"must be skip or cancel, not {mode!r}", "mode")
        mode = "skip"
    return Singleton(mode=cast("Literal['skip', 'cancel']", mode), key=fields.expression("key"))


def _refuse_combinations(fn: Fields, function: Function) -> None:
    if function.batch is None:
        return
    refused = {
        "cancel": function.cancel,
        "debounce": function.debounce,
        "singleton": function.singleton,
        "priority": function.priority,
    }
    for name, value in refused.items():
        if value:
            fn.fail(f"batchEvents and {name} cannot be combined", code="combo_unsupported")
