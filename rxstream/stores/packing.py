"""Packing a value with msgpack. Its own type says that there may be nothing; there always is."""

from __future__ import annotations

import msgpack


def pack(content: object) -> bytes:
    """``content`` as msgpack. Raises ``TypeError`` for what msgpack does not know.

    A lone surrogate can arrive through JSON; an interaction must not be lost for it.
    """
    packed = msgpack.packb(content, unicode_errors="surrogatepass")
    return packed  # type: ignore[no-any-return]
