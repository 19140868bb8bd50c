"""Finding the configuration: a named file, the environment, the usual places, or none.

In this order, the first one found is all that is read:

1. ``-c/--config PATH``: the file of that name, else with ``.cue`` or ``.json`` after it;
2. ``INNGEST_CONFIG``: the whole text;
3. ``./inngest.cue``, ``./inngest.json``;
4. ``/etc/inngest/config.cue``, ``/etc/inngest/config.json``;
5. ``/etc/inngest.cue``, ``/etc/inngest.json``;
6. the defaults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from inngest.config.errors import ConfigError, Problem

VARIABLE = "INNGEST_CONFIG"
STEMS = (Path("inngest"), Path("/etc/inngest/config"), Path("/etc/inngest"))
SUFFIXES = (".cue", ".json")


@dataclass(frozen=True)
class Source:
    """The text of a configuration: ``name`` is what messages call it, ``named`` that it was asked for,
    ``path`` the file, if it is one.
    """

    name: str
    text: str = field(repr=False)
    named: bool = True
    path: Path | None = None


DEFAULTS = Source("the defaults", "", named=False)


def named(path: Path) -> Source:
    """The file of that name or stem. Raises ConfigError, with what was tried, where there is none."""
    tried = [path, *(Path(f"{path}{suffix}") for suffix in SUFFIXES if path.suffix not in SUFFIXES)]
    for candidate in tried:
        if _is_there(candidate) or (candidate.exists() and not candidate.is_dir()):
            return Source(str(candidate), _read(candidate), path=candidate)
    listed = ", ".join(map(str, tried))
    raise ConfigError([Problem(f"there is no configuration file {path} (tried: {listed})")])


def candidates(environment: Mapping[str, str], stems: Sequence[Path] = STEMS) -> Iterator[Source]:
    """What there is without being named, in the order that counts; the defaults come last.

    Raises ConfigError for a file that is there and cannot be read.
    """
    if text := environment.get(VARIABLE, ""):
        yield Source(VARIABLE, text)
    for stem in stems:
        for suffix in SUFFIXES:
            path = Path(f"{stem}{suffix}")
            if _is_there(path):
                yield Source(str(path), _read(path), named=False, path=path)
    yield DEFAULTS


def _is_there(path: Path) -> bool:
    """Whether there is such a file. Raises ConfigError if that cannot be seen."""
    try:
        return path.is_file()
    except OSError as error:
        reason = error.strerror or str(error)
    raise ConfigError([Problem(f"the configuration file {path} cannot be read: {reason}")])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        reason = error.strerror or str(error)
    except UnicodeDecodeError as error:
        reason = f"it is not UTF-8 (at byte {error.start})"
    raise ConfigError([Problem(f"the configuration file {path} cannot be read: {reason}")])
