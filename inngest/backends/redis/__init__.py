"""The engine store and the event stream on one Redis server (7.0 or later).

**What stands where.** All keys of a function's runs and queue carry its hash tag: ``inngest:{<function
id>}:…``. Beside them stand the indices of the whole server: the rings of partitions that have work, the
timers, the leases, runs and odd job ids by name, the pauses by what they wait for, cells that functions
share, the registry, the outbox. Keys of claims, tokens and limits expire on the server's clock with a margin;
what counts is the caller's time against the one stored in them. Scripts ask the server for the time only to
say how far away something is.

**A transition is one script.** It is sent as msgpack, in which whatever scripts need not understand (items,
pauses, the unchanging part of a run) is opaque bytes. The scripts are assembled of the files in ``lua/``, one
concept each. A server that is out of memory, read-only or without its replicas refuses a script before it
starts, so that none is ever half done. The transitions of a commit, and the commits of concurrent callers,
share a round trip. ``lease`` is one script over the ring, and its reply brings the states of the runs along,
as long as they are not large; a commit that leases its continuation tells the revision of the run that it
knows, and gets the state back only if that is not the one.

**Nothing polls.** A worker waits only after it saw the ring empty, so a script publishes when the ring stops
being empty, or when the next due time moves forward: one channel a queue. Whoever has looked and left nothing
says so there, so that one of many goes, and the others stay: see `bell`.

**The event stream** is one Redis stream beside all this, with keys of its own tag, ``inngest:{stream}``: an
event is an entry, each kind of reader a consumer group. Consumers give signs of life, as keys that expire.
Whoever leaves says so and is succeeded at once; whoever is silent at two looks is dead, and others claim the
entries that it has not acknowledged. Consumers read on connections of their own, on which they block. With
the signs of life, what all groups have acknowledged is trimmed off, and when the stream takes too much memory
the oldest of what only the indexer lacks. What a server needs to get on when its memory is full (signs,
claims, trimming) are scripts that it runs all the same. Dead letters are a stream of their own under the same
tag; a revived one is an entry that names its group, and that the others pass over.

**Fail-over.** A failover may lose a suffix of the commits, so that a revision may come to name another state:
known states are forgotten with each broken connection, and whenever the server is no longer the one it was.
`link.Link` finds that out by the answers of a replica, and by asking each new connection, and from time to
time an idle one, which server it leads to; what came on connections to the old one is not believed any more.

**Sentinel** changes how the address is found. The place for ``WAIT`` is in `link.Link`, after the scripts, on
their connection.

**Cluster** needs these to change, all of which are single-server shortcuts of the scripts, in one place each:

- rings, timers and leases become keys of the function (its slot); beside them a global zset of functions by
  their next due time, written after the script as a hint and repaired by a sweep; ``lease`` asks the
  functions it names;
- serial numbers are counted for each function: they only order what is inside one;
- cells of scope ``env`` and ``account``, and their lines, get a slot of their own, in which a place is
  reserved before the item's script and given back if that fails;
- the buckets of pauses stay where they are, but are written after the run's own record: an event that meets
  too many pauses is harmless, since `TakePause` decides in the run's slot, and a missing one is added by the
  retry of the transition, which has not returned yet;
- locks already carry the tag of their function; the indices of runs and jobs become hints, too: run ids and
  job ids are looked up by the caller, who knows the function of all that it leased;
- the outbox is kept for each function, and drained in turns;
- the event stream has one slot already; more throughput than one node has takes several streams.
"""

from __future__ import annotations
