"""`inngest keys`."""

from __future__ import annotations

import json
import secrets

import click

_TEXT = """\
# A signing key, which the server shares with the applications, and an event key, with which clients send
# events. Give them to the server as environment variables, and to the applications as well:
INNGEST_SIGNING_KEY={signing}
INNGEST_EVENT_KEY={event}

# Or to the server in its configuration, here by way of files that only it can read:
# keys: {{
#     signing: ["${{file:/etc/inngest/signing-key}}"]
#     event: ["${{file:/etc/inngest/event-key}}"]
# }}
"""


@click.group()
def keys() -> None:
    """The keys of applications and clients."""


@keys.command()
@click.option("--signing", is_flag=True, help="A signing key, and nothing else.")
@click.option("--event", is_flag=True, help="An event key, and nothing else.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
def generate(*, signing: bool, event: bool, as_json: bool) -> None:
    """Make a signing key and an event key, and say how to configure them.

    Nothing is stored: what is printed is all there is.
    """
    made = {"signingKey": f"signkey-prod-{secrets.token_hex(32)}", "eventKey": secrets.token_hex(24)}
    if signing != event:
        made = {name: key for name, key in made.items() if (name == "signingKey") == signing}
    if as_json:
        click.echo(json.dumps(made, indent=2))
    elif len(made) == 1:
        click.echo(next(iter(made.values())))
    else:
        click.echo(_TEXT.format(signing=made["signingKey"], event=made["eventKey"]), nl=False)
