"""The `inngest` command."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, distribution

_CLASH = """\
inngest: the Inngest Python SDK (distribution 'inngest') is installed in this environment.
It has the same import name as this server (distribution 'inngest-server'), so the two overwrite each other's
files.
Install the server in an environment of its own, for example:

    python3 -m venv ~/inngest-server
    ~/inngest-server/bin/pip install inngest-server
    ~/inngest-server/bin/inngest dev

or `pipx install inngest-server`. If the SDK was installed here by mistake: `pip uninstall inngest`,
then `pip install --force-reinstall inngest-server`.
"""


def main() -> None:
    """Entry point of the console script."""
    # Before all other imports: with both distributions installed, any of them may be the other one's file.
    if _sdk_installed():
        sys.stderr.write(_CLASH)
        raise SystemExit(2)
    from inngest.cli.commands import cli

    cli(prog_name="inngest")


def _sdk_installed() -> bool:
    try:
        distribution("inngest")
    except PackageNotFoundError:
        return False
    return True
