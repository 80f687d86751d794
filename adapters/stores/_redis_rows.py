"""``Rows`` in the keys of Redis, and the one script that writes them.

Of a memory, whose name is written in hexadecimal between braces::

    …:m   hash: r, the revision, which changes with every transaction; s, the packed Meta
    …:i   hash: version -> info          …:v:N   the snapshot file of version N
    …:l   hash: seq -> record
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rxstream.stores.records import StoredRecord
from rxstream.stores.rows import UNREADABLE, Meta, Parts, unreadable
from rxstream.stores.rules import damaged_memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rxstream.stores.buffered import Buffered

_PART = 3 << 20
"""As much is asked for at once: each time is a round trip more."""

SCRIPT = """
local staged = tonumber(ARGV[2])
if (redis.call('HGET', KEYS[1], 'r') or '') ~= ARGV[1] then
  for i = 3, 2 + staged do redis.call('DEL', ARGV[i]) end
  return 0
end
local i = 3 + staged
while i <= #ARGV do
  local n = tonumber(ARGV[i])
  redis.call(unpack(ARGV, i + 1, i + n))
  i = i + n + 1
end
return 1
"""
"""Runs commands if the revision is as expected, else removes the values that were sent ahead.

Values are sent ahead, under names that expire, because a script would copy them twice more.
"""


@dataclass(frozen=True, slots=True)
class Space:
    """The names of keys."""

    prefix: bytes

    @property
    def names(self) -> bytes:
        """Sorted set of live memories, all with score 0."""
        return self.prefix + b"names"

    @property
    def expiry(self) -> bytes:
        """Sorted set of memories with a lifetime, by when it ends."""
        return self.prefix + b"expiry"

    def of(self, key: str, part: bytes) -> bytes:
        """A key of one memory."""
        return self.prefix + b"{" + key.encode().hex().encode() + b"}:" + part


class RedisMemory:
    """The reading half of ``Rows``. Raises errors of the client."""

    def __init__(self, client: Any, space: Space, key: str, skew: float) -> None:
        self._client, self._space, self._key = client, space, key
        pipeline = client.pipeline(transaction=False)
        pipeline.hmget(self._of(b"m"), "r", "s")
        pipeline.time()
        (revision, state), (seconds, micros) = pipeline.execute()
        self.now = seconds + micros / 1e6 + skew
        self.revision: bytes = revision or b""
        try:
            self._meta = Meta() if state is None else Meta.unpack(state)
        except UNREADABLE as exc:
            raise damaged_memory(key, unreadable(exc)) from exc
        if (revision is None) != (state is None):
            raise damaged_memory(key, "half of its bookkeeping is missing")

    def _of(self, part: bytes) -> bytes:
        return self._space.of(self._key, part)

    def is_outrun(self) -> bool:
        """Whether somebody wrote since this was read."""
        return (self._client.hget(self._of(b"m"), "r") or b"") != self.revision

    def meta(self) -> Meta:
        return self._meta

    def info(self, version: int) -> bytes | None:
        found: bytes | None = self._client.hget(self._of(b"i"), version)
        return found

    def packed(self, version: int) -> bytes | None:
        found: bytes | None = self._client.get(self._of(b"v:%d" % version))
        return found

    def parts(self, version: int) -> Parts | None:
        name = self._of(b"v:%d" % version)
        size = self._client.strlen(name)
        if size <= _PART:  # also for an empty value, and for none; and as a whole it is quicker
            found = self.packed(version)
            return None if found is None else Parts(len(found), (found,))
        starts = range(0, size, _PART)
        return Parts(size, (self._client.getrange(name, at, at + _PART - 1) for at in starts))

    def versions(self, before: int | None, limit: int | None) -> list[int]:
        infos = self._of(b"i")
        if limit == 1 and before is not None and self._client.hexists(infos, before - 1):
            return [before - 1]  # the usual question, whether a version is there
        try:
            numbers = sorted(map(int, self._client.hkeys(infos)), reverse=True)
        except ValueError as exc:
            raise damaged_memory(self._key, "a version's number is none") from exc
        return [n for n in numbers if before is None or n < before][:limit]

    def records(self, first: int, count: int) -> list[tuple[int, StoredRecord]]:
        numbers = range(first, first + count)
        rows = self._client.hmget(self._of(b"l"), *numbers)
        return [
            (seq, StoredRecord.parse(row))
            for seq, row in zip(numbers, rows, strict=True)
            if row is not None
        ]


def commands(
    space: Space, key: str, memory: RedisMemory, changes: Buffered
) -> tuple[dict[bytes, bytes], list[Any]]:
    """Values to send ahead, and the commands that store ``changes``, each after its length."""
    steps: list[Any] = []

    def step(*words: Any) -> None:
        steps.extend([len(words), *words])

    infos, log, name = space.of(key, b"i"), space.of(key, b"l"), key.encode()
    for some in _parts(changes.removed):
        step("HDEL", infos, *some)
        step("UNLINK", *(space.of(key, b"v:%d" % version) for version in some))
    start = memory.meta().log_start
    for some in _parts(range(start, min(changes.dropped, memory.meta().last_seq) + 1)):
        step("HDEL", log, *some)
    staged = {}
    for version, (info, packed) in changes.added.items():
        final = space.of(key, b"v:%d" % version)
        ahead = final + b":" + secrets.token_hex(8).encode()
        staged[ahead] = packed
        step("RENAME", ahead, final)
        step("PERSIST", final)
        step("HSET", infos, version, info)
    for seq, record in changes.logged.items():
        step("HSET", log, seq, record.frame())
    meta = changes.meta()
    step("HSET", space.of(key, b"m"), "r", secrets.token_hex(8), "s", meta.pack())
    step("ZADD", space.names, 0, name) if meta.live else step("ZREM", space.names, name)
    if meta.expires_at is not None:
        step("ZADD", space.expiry, repr(meta.expires_at), name)
    elif memory.meta().expires_at is not None:
        step("ZREM", space.expiry, name)
    return staged, steps


def _parts(numbers: Sequence[int]) -> Iterable[Sequence[int]]:
    # Lua unpacks no more than some thousand values at once.
    return (numbers[start : start + 500] for start in range(0, len(numbers), 500))
