"""What `explain` says, and that the documentation says the same of every key."""

from __future__ import annotations

from pathlib import Path

import pytest

from inngest.config.catalogue import catalogue
from inngest.config.explain import UnknownKey, explanation, tables

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"
BEGIN = "<!-- Made by `inngest config schema --markdown`: do not edit. -->\n"
END = "<!-- End of what is made. -->\n"


def explain(path: str) -> str:
    return explanation(catalogue(), path)


def test_a_value() -> None:
    assert explain("eventAPI.port") == (
        "eventAPI.port\n"
        "  The port to listen on.\n"
        "  type:       int\n"
        "  allowed:    a port, 1 to 65535\n"
        "  default:    8288\n"
    )


def test_a_key_of_some_variants() -> None:
    text = explain("state.service.keyPrefix")
    assert '  of backend: "redis"\n' in text
    assert '  default:    "inngest"\n' in text
    assert '  of backend: "nats", "redis"' not in explain("eventstream.service.topic")


def test_a_required_key() -> None:
    assert "  required:   yes\n" in explain("eventstream.service.serverURL")


def test_a_list() -> None:
    text = explain("keys.signing")
    assert "  allowed:    a list of: a text that is not empty\n" in text
    assert "  default:    []\n" in text


def test_variants_with_their_keys() -> None:
    text = explain("datastore.service")
    assert '  allowed:    backend "sqlite", "inmemory", "postgres"\n' in text
    assert '  backend "postgres": A PostgreSQL database.\n      backend, URI, minConnections' in text


def test_a_section_and_the_top() -> None:
    assert "  level           The least severe level" in explain("log")
    assert "  eventAPI        The HTTP API that takes events in.\n" in explain("")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("stat", "stat: there is no key stat; did you mean state?"),
        ("eventAPI.prot", "eventAPI.prot: there is no key prot; did you mean port?"),
        ("state.service.hots", "state.service.hots: there is no key hots; did you mean host?"),
        ("log.level.x", "log.level.x: there is no key x; no key is known here"),
    ],
)
def test_an_unknown_key_names_the_nearest(path: str, message: str) -> None:
    with pytest.raises(UnknownKey) as caught:
        explain(path)
    assert str(caught.value) == message


def test_every_key_can_be_explained() -> None:
    for path, key in catalogue().walk():
        assert key.doc in explain(".".join(path))


def test_the_page_has_the_tables_of_the_schema() -> None:
    _, begin, rest = PAGE.read_text().partition(BEGIN)
    made, end, _ = rest.partition(END)
    assert begin
    assert end
    assert made.strip() == tables(catalogue()).strip()
