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
MAX_ID = 256
"""Characters of the ``id`` that an event's sender chose, and of its ``v``."""
MAX_JOB = 1024
"""Characters of the id of a call, as an application repeats it."""
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
BODIES_BYTES = 256 * 1024 * 1024
"""Bodies of requests that one process reads or works on; who brings more is told to come again."""
MAX_NAME = 256
"""Characters of an event's name. Each ``/`` and ``.`` in it is a name more that triggers may have."""
MAX_TRACES = 8 * 1024 * 1024
"""Spans that an application sends at once."""
MAX_EVENTS = 5000
"""Events of one request."""
MAX_SESSIONS = 5
MAX_SESSION_KEY = 128
MAX_SESSION_ID = 512

# -- the event stream --

LARGEST_ENTRY = MAX_BODY
"""An encoded event, where the backing system sets no lower limit."""
DELIVERY_BYTES = 16 * 1024 * 1024
"""A delivery ends with the entry that reaches so much."""
STREAM_WINDOW = 16 * 1024 * 1024
"""Entries next to be delivered to a group that are kept in memory, where the others are on disk."""
STREAM_LAG = 256 * 1024 * 1024
"""Entries that wait for a group of the stream in memory. Above that the oldest are dropped for a group that
may lose some, and publishers wait for any other.
"""
STREAM_LAG_SHARED = 1024 * 1024 * 1024
"""The same of a stream on a server that keeps it in its memory: for groups that may lose some."""
ROOM_SECONDS = 10.0
"""How long a publisher waits for room."""
COUNTED = 10_000
"""Where a count may stop that the backing system would have to make one by one."""

MAX_LETTERS = 10_000
MAX_LETTER_BYTES = 64 * 1024 * 1024
"""Dead letters, and the bytes of their bodies, above which the oldest go. The newest always stays."""
MAX_REASON = 1000
"""Characters of the reason of a dead letter; the rest is cut off."""
MAX_LETTERS_PAGE = 100
MAX_LETTER_IDS = 1000
"""Dead letters that one request shows, or does something with."""
MAX_LETTER_SHOWN = 4096
"""Of the body of a dead letter in a list."""

# -- identity --

MAX_SEED_SKEW = DAY
"""How far from now a sender may place its events by the seed of their ids. Clocks of clients go wrong, and
requests are repeated for a while; a seed from elsewhere is none.
"""
KEY_TTL = DAY
"""How long an event id that its sender chose starts no second run (section 2.3)."""
REMEMBERED = 2 * MINUTE
"""How long an event that cancels is remembered for the runs of earlier events. What a runner that is stopped
holds is given to others long before.
"""
MAX_REMEMBERED = 5000
"""Such events a function and name; of more the newest."""
SETTLING = 10 * MINUTE
"""What a function has decided on is remembered so much longer than the event stream needs: senders repeat
requests too.
"""

# -- runs --

MAX_REQUESTS = 10
"""Calls in a row that an application may answer by asking for the next one, while nothing else happens."""
MAX_STEPS = 1000
MAX_STATE = 32 * 1024 * 1024
MAX_STEP_OUTPUT = 4 * 1024 * 1024
MAX_OPS = 1000
"""Steps that one answer may report."""
MAX_PRIORITY = 43_200
"""Seconds, either way."""
MAX_BATCH_BYTES = 10 * 1024 * 1024
MAX_TIMER = 366 * DAY
MAX_REPAIRS = 3
"""How often a run that nothing moves any more is called again before it fails."""
MAX_STATE_SENT = 4 * 1024 * 1024 - 1024
"""Memoised state and events, as they are sent, above which the application fetches them itself
(``use_api``), if its SDK can.
"""
CALL_SECONDS = 2 * 60 * 60.0
"""For a call of an application, and for a gateway request."""

# -- what people see --

MAX_COUNTED = 100_000
"""Runs or events that a total counts; there may be more."""
MAX_SCANNED = 20_000
"""Runs or events that one search by expression looks at."""
MAX_SEARCH_WORK = 20_000_000
"""Units of fuel that the expressions of one search burn: some 2 s."""
MAX_SEARCH_BYTES = 256 * 1024 * 1024
"""Events and outputs that one search decodes: some 2 s."""
SEARCH_SECONDS = 10.0
"""After which one search is told as far as it came."""

# -- workers --

LEASE = 30_000
"""How long an item belongs to a worker, which prolongs that as long as it works on it."""
DEAD = 4_000
"""How long a worker may give no sign of life before its leases are taken up by others."""
FUDGE = 5_000
"""An event may be received this much before the wait for it, or after its end: the two took different ways,
and are told the time by different clocks.
"""
MAX_ITEM_FAILURES = 10
"""How often an item of a runner is tried that this program fails on, before it is a dead letter."""
MAX_HISTORY_WAITING = 250_000
"""Entries of history that wait for the data store; of more the oldest are dropped, and counted."""
PAGE = 500
"""Runs, waits or items that one call of a store brings or changes at most."""
BUSY_RETRY = 1_000
"""How long an item waits that nobody was free to be called for, unless the driver says otherwise."""
MIN_BUSY_RETRY = 100
"""The least of what a driver may say."""
CAPACITY = 1000
"""Items that one executor works on at once, unless configured."""
LEASE_BYTES = 32 * 1024 * 1024
"""Items are handed out together, and runs shown in one page, until their runs reach so much; the one that
reaches it is the last.
"""
WORK_BYTES = 256 * 1024 * 1024
"""While the runs that one executor works on take so much, it takes no more work."""
ANSWER_BYTES = 128 * 1024 * 1024
"""Answers of applications that one process reads or stores; others wait before their bodies are read."""


WAKE_LEAST = 5
WAKE_MOST = 25
"""How long a worker leaves a wake-up to those that are quicker, before it looks by itself: between these."""
WAKE_IDLE = 30_000
"""After this long somebody looks, whatever was heard."""

# -- networked stores --

STORE_REQUESTS = 10_000
STORE_BYTES = 64 * 1024 * 1024
"""Requests to a server, and their bytes, that wait to be sent; above, callers are told at once. One alone
may be larger.
"""
STORE_BATCH = 64
STORE_BATCH_BYTES = 4 * 1024 * 1024
"""Requests, and their bytes, that share a round trip; one alone may be larger."""
STORE_ARGUMENT = 512 * 1024 * 1024
"""One argument of a command, unless the server says otherwise."""
STORE_ANSWER = 15_000
"""A round trip, after which the connection is given up."""
STORE_CONNECT = 3_000
"""Until a connection is ready."""
STORE_WATCH = 5_000
"""Between two looks at whether the server is still the one it was."""
STORE_AGAIN = 1_000
"""Between two tries at a lost connection that is needed all the time, at most."""

# -- the bus --

BUS_BODY = 1024 * 1024
BUS_MESSAGES = 1000
BUS_BYTES = 8 * 1024 * 1024
"""Messages that a subscriber has not taken yet, and their bytes; what comes above is dropped, and told of."""
BUS_ANSWERS = 100
"""Requests that one who answers works on at once; more are left unanswered."""


class Policy(Struct, frozen=True):
    """What an operator may set about retries and limits."""

    retry_interval: int = 0  # ms; a fixed delay in place of the table
    max_steps: int = MAX_STEPS
    max_state: int = MAX_STATE
    max_event: int = MAX_EVENT


DEFAULT_POLICY = Policy()
