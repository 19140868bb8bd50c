"""How things are kept in the file, and the border before it: what cannot be kept is refused before it counts.

Memory is changed first and the file follows, so that a change which cannot be written would be found when it
is too late, by everybody's writer. What is noted of a transition is made of what is in it: if that can be
packed, its notes can be written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from inngest.core.errors import StoreRefused
from inngest.core.model.functions import App, Function
from inngest.core.model.transition import Transition

pack = msgspec.msgpack.Encoder().encode


def refuse_unwritable(path: Path, things: Sequence[Transition | App | Function]) -> None:
    """Raises `StoreRefused` if one of them cannot be written; nothing of any of them must be applied then.

    Its facts are the ``place`` among ``things``, and of a transition the ``run``, the ``fn``, and the name of
    the ``effect`` with its place ``at``.
    """
    for place, thing in enumerate(things):
        error = _flaw(thing)
        if error is not None:
            raise _refusal(path, thing, place, error)


def _flaw(thing: object) -> Exception | None:
    try:
        pack(thing)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 -- numbers, surrogates, depth, foreign types: it is all the same
        return error
    return None


def _refusal(path: Path, thing: object, place: int, error: Exception) -> StoreRefused:
    reason = f"{type(error).__name__}: {error}"
    if not isinstance(thing, Transition):
        return StoreRefused(f"{path}: it cannot be written: {reason}", system=str(path), place=place)
    effects = ((at, each) for at, each in enumerate(thing.effects) if _flaw(each) is not None)
    at, effect = next(effects, (-1, None))
    what = type(effect).__name__ if effect is not None else "transition"
    return StoreRefused(
        f"{path}: {what} of run {thing.run!r} cannot be written: {reason}",
        system=str(path),
        place=place,
        run=thing.run,
        fn=thing.fn,
        effect=what,
        at=at,
    )
