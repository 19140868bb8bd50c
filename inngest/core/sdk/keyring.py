"""By which of several signing keys a request to an application is signed, while keys are being exchanged.

An application verifies by the keys that it has, and says which one that is by what it registers with. So each
app is remembered with the key of its registration, and signed to by that one. Where it refuses (401, before
any code of a user runs), the other keys are tried, and the one that it takes is remembered here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from inngest.core.sdk.signing import hashed_key

_MOST = 10_000
"""Apps whose key is remembered here."""


def fingerprint(key: str) -> str:
    """Names a key and opens nothing: what applications authenticate with is `hashed_key`, not this.

    Raises ValueError if the key is not hex.
    """
    return hashlib.sha256(b"fingerprint:" + hashed_key(key).encode()).hexdigest()[:16]


class Keyring:
    """The signing keys of the server, at least none.

    Args:
        keys: the first one signs where nothing else is known.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = tuple(dict.fromkeys(keys))
        self._by_fingerprint = {fingerprint(key): key for key in self.keys} if len(self.keys) > 1 else {}
        self._taken: dict[str, tuple[str, str]] = {}  # app -> as of which registration, the key

    def order(self, app: str, registered: str) -> Sequence[str]:
        """The keys to sign by, the most likely one first.

        Args:
            app: its id.
            registered: the fingerprint of the key that it registered with, empty if unknown.
        """
        if len(self.keys) < 2:
            return self.keys
        taken = self._taken.get(app)
        if taken is not None and taken[0] == registered:
            first: str | None = taken[1]
        else:
            first = self._by_fingerprint.get(registered)
        if first is None or first == self.keys[0]:
            return self.keys
        return (first, *(key for key in self.keys if key != first))

    def learn(self, app: str, registered: str, key: str) -> None:
        """The app has taken this key, and not those before it."""
        if len(self._taken) >= _MOST:
            self._taken.clear()
        self._taken[app] = (registered, key)
