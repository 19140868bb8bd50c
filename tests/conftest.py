"""What all tests share: how examples are drawn.

They are the same each time, so that no change fails by what chance finds in another's code; ``EXPLORE=1``
looks for new ones. No example has a deadline: how fast a machine is at the moment says nothing.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("explore" if os.environ.get("EXPLORE") else "same")
