"""Content codings, undone as bytes come and never beyond a given size: a bomb is stopped while it
inflates.
"""

from __future__ import annotations

import zlib
from typing import Protocol

import brotli  # type: ignore[import-untyped]

# RFC 1952 lets a gzip body have several members. Each costs a fresh inflater and a copy of what is left of
# the input.
_MAX_GZIP_MEMBERS = 64
_BROTLI_SLICE = 32 * 1024


class DecodingError(Exception):
    """The body is not what its Content-Encoding says; the message says how."""


class Decoder(Protocol):
    """Undoes one content coding."""

    def feed(self, data: bytes, limit: int) -> bytes:
        """Decode ``data``; a result of more than ``limit`` bytes means that decoding stopped there."""
        ...

    def finish(self) -> None:
        """Check that the coded stream has come to its end."""
        ...


def decoder_for(coding: str) -> Decoder | None:
    """A fresh decoder for a ``Content-Encoding``, None for identity; raise DecodingError if unknown."""
    match coding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return _Gzip()
        case "br":
            return _Brotli()
        case "deflate":
            return _Deflate()
        case _:
            raise DecodingError(f"the content encoding {coding!r} was not asked for")


class _Gzip:
    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        self._members = 1
        self._empty = True

    def feed(self, data: bytes, limit: int) -> bytes:
        out = b""
        while data:
            if self._inflate.eof:
                self._members += 1
                if self._members > _MAX_GZIP_MEMBERS:
                    raise DecodingError(f"the gzip body has more than {_MAX_GZIP_MEMBERS} members")
                self._inflate = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
            self._empty = False
            out += _inflated(self._inflate, data, limit - len(out), "gzip")
            if len(out) > limit:
                break
            data = self._inflate.unused_data
        return out

    def finish(self) -> None:
        _check_end(self._empty or self._inflate.eof, "gzip")


class _Deflate:
    """``deflate`` is the zlib format by RFC 9110, and a bare deflate stream by the habit of some servers."""

    def __init__(self) -> None:
        self._inflate: zlib._Decompress | None = None

    def feed(self, data: bytes, limit: int) -> bytes:
        if self._inflate is None:
            bare = data[0] & 0x0F != zlib.DEFLATED
            self._inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS if bare else zlib.MAX_WBITS)
        out = _inflated(self._inflate, data, limit, "deflate")
        if self._inflate.unused_data:
            raise DecodingError("data follow the end of the deflate body")
        return out

    def finish(self) -> None:
        _check_end(self._inflate is None or self._inflate.eof, "deflate")


class _Brotli:
    def __init__(self) -> None:
        self._decompress = brotli.Decompressor()
        self._empty = True

    def feed(self, data: bytes, limit: int) -> bytes:
        self._empty = False
        out: list[bytes] = []
        size = 0
        try:
            # One call makes up to several times what it is allowed, so a little is asked for at a time. It
            # may take input again and still hold output.
            while size <= limit:
                made = self._decompress.process(data, output_buffer_limit=_BROTLI_SLICE)
                out.append(made)
                size += len(made)
                if self._decompress.is_finished() or (not made and self._decompress.can_accept_more_data()):
                    break
                data = b""
        except brotli.error as error:
            raise DecodingError("the br body is corrupt") from error
        return b"".join(out)[: limit + 1]

    def finish(self) -> None:
        _check_end(self._empty or self._decompress.is_finished(), "br")


def _inflated(inflate: zlib._Decompress, data: bytes, limit: int, coding: str) -> bytes:
    try:
        return inflate.decompress(data, limit + 1)
    except zlib.error as error:
        raise DecodingError(f"the {coding} body is corrupt: {error}") from error


def _check_end(reached: bool, coding: str) -> None:
    if not reached:
        raise DecodingError(f"the {coding} body is cut short")
