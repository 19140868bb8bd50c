"""Every limit of the engine, once: how much, how long, how often. Times in milliseconds, sizes in bytes."""

from __future__ import annotations

from msgspec import Struct

from inngest.core.timing.times import DAY, MINUTE

# -- what comes in --

MAX_DEPTH = 128
"""Objects and arrays inside of each other, in any JSON that comes in. What recurses over it later has a
thousand Python frames, of which it takes up to three a level, with our envelopes around it and our callers
beneath.
"""
MAX_ID = 1024
"""Characters of an id that its sender chose, and of an event's ``v``."""
MAX_STEP_ID = 255
"""Characters of a step's hashed id; a header of calls carries it."""
MAX_SIGNAL = 512
"""Characters of a signal's name."""

# -- registrations --

MAX_FUNCTIONS = 5000
"""Of one application."""
MAX_SLUG = 512
"""Characters of the names under which applications and functions are known."""
MAX_TEXT = 2048
"""Characters of what else an application says of itself, and of a URL."""
MAX_LIMIT = (1 << 53) - 1
"""What every store holds exactly: Redis scripts count in doubles, and so does JavaScript."""
MAX_PERIOD = 366 * DAY
"""Of a throttle."""

# -- events --

MAX_EVENT = 3 * 1024 * 1024
"""``data`` and ``user`` of one event, unless configured."""
MAX_BODY = 64 * 1024 * 1024
"""A request to the event API, unless configured."""
MAX_NAME = 512
"""Characters of an event's name."""
MAX_EVENTS = 5000
"""Events of one request."""
MAX_SESSIONS = 5
MAX_SESSION_KEY = 128
MAX_SESSION_ID = 512

# -- identity --

KEY_TTL = DAY
"""How long an event id that its sender chose starts no second run (section 2.3)."""
DELIVERY_TTL = 60 * MINUTE
"""The same for an id of our own, which only a redelivery can repeat."""
TOKEN_TTL = 30 * MINUTE
"""How long the same event counts once for a rate limit or a batch (sections 4.4 and 4.6)."""

# -- runs --

MAX_STEPS = 1000
MAX_STATE = 32 * 1024 * 1024
MAX_STEP_OUTPUT = 4 * 1024 * 1024
MAX_OPS = 1000
"""Steps that one answer may report."""
MAX_PRIORITY = 43_200
"""Seconds, either way."""
MAX_BATCH_BYTES = 10 * 1024 * 1024
MAX_TIMER = 366 * DAY
MAX_STATE_SENT = 4 * 1024 * 1024 - 1024
"""Memoised state and events, as they are sent, above which the application fetches them itself
(``use_api``), if its SDK can.
"""
CALL_SECONDS = 2 * 60 * 60.0
"""For a call of an application, and for a gateway request."""

# -- workers --

LEASE = 30_000
"""How long an item belongs to a worker that is not heard of."""
FUDGE = 5_000
"""An event may be received this much before the wait for it: the two took different ways."""
CAPACITY = 1000
"""Items that one executor works on at once, unless configured."""


class Policy(Struct, frozen=True):
    """What an operator may set about retries and limits."""

    retry_interval: int = 0  # ms; a fixed delay in place of the table
    max_steps: int = MAX_STEPS
    max_state: int = MAX_STATE


DEFAULT_POLICY = Policy()
