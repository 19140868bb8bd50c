"""Where a server keeps its files when nobody says where. The working directory has no part in that: a server
that is started from elsewhere must not begin anew.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

SYSTEM = Path("/var/lib/inngest")
FORMER = Path(".inngest")
"""In the working directory: where it was up to the first release."""
FILE = "engine.db"


def default_data_dir(environment: Mapping[str, str] = os.environ, *, root: bool | None = None) -> Path:
    """``$STATE_DIRECTORY`` as systemd gives it; `SYSTEM` for the superuser; else ``inngest`` in
    ``$XDG_STATE_HOME``, which is ``~/.local/state`` unless set.
    """
    if given := environment.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(given)
    if os.geteuid() == 0 if root is None else root:
        return SYSTEM
    state = Path(environment.get("XDG_STATE_HOME", ""))
    # The specification has relative ones ignored.
    return (state if state.is_absolute() else Path("~/.local/state").expanduser()) / "inngest"


def left_behind(chosen: Path) -> Path | None:
    """The directory with the data that the first release would have used here, if ``chosen`` has none."""
    former = FORMER.absolute()
    return former if (former / FILE).is_file() and not (chosen / FILE).exists() else None
