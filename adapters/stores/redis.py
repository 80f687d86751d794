"""Keys in Redis or Valkey, for hot memories of many machines. Needs ``rxstream[redis]``."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from rxstream.errors import StoreCorrupt, StoreNotFound, StoreUnavailable
from rxstream.stores.buffered import Buffered
from rxstream.stores.remote import Lost, Outrun, RemoteStore
from rxstream.stores.rules import key_of

from ._redis_rows import SCRIPT, RedisMemory, Space, commands

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rxstream.store import Capability
    from rxstream.stores.rows import Rows

T = TypeVar("T")
_PAGE = 1000


class RedisStore(RemoteStore):
    """A ``Store`` whose keys begin with ``prefix``. Only core commands and a Lua script are used.

    Whether a commit survives a power failure is the server's setting: the store says ``durable``
    when it finds ``appendonly yes`` and ``appendfsync always``. One version may take 512 MB. Give
    the server ``maxmemory-policy noeviction``, or it may drop versions, which is then reported as
    damage. A cluster is not supported. Lifetimes are measured by the server's clock. Raises
    ``StoreUnavailable``.
    """

    def __init__(self, url: str, *, prefix: str = "rxstream:", patience: float = 5.0) -> None:
        super().__init__(f"Redis at {_place(url)}", patience)
        self._url, self._space = url, Space(prefix.encode())
        self._process = os.getpid()
        self._client = self._connect()
        self.capabilities: frozenset[Capability] = frozenset({"persistent", "shared"})
        if self._persist(self._syncs, repeatable=True):
            self.capabilities |= {"durable"}

    @classmethod
    def from_url(cls, url: str) -> RedisStore:
        """``redis://user:password@host:port/0?prefix=rxstream:``, or ``rediss://`` with TLS."""
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        prefix = options.pop("prefix", "rxstream:")
        return cls(urlunsplit(parts._replace(query=urlencode(options))), prefix=prefix)

    def erase(self) -> None:
        """Remove every key with this prefix, also those that keep version numbers from being used
        again. The store is closed then."""

        def remove() -> None:
            with self._translated():
                pattern = re.sub(rb"([*?\[\]\\^])", rb"\\\1", self._space.prefix) + b"*"
                for key in self._client.scan_iter(match=pattern, count=_PAGE):
                    self._client.unlink(key)

        self._persist(remove, repeatable=True)
        self.close()

    def _connect(self) -> Any:
        try:
            # A call that is tried again by the client could take effect twice.
            return redis.Redis.from_url(
                self._url,
                retry=Retry(NoBackoff(), 0),
                socket_connect_timeout=10,
                socket_timeout=30,
                socket_keepalive=True,
            )
        except (ValueError, TypeError) as exc:
            raise StoreUnavailable(
                f"{self._place}: the address is not understood ({exc}); "
                "write redis://host:port/0?prefix=rxstream:"
            ) from exc

    def _syncs(self) -> bool:
        with self._translated():
            self._client.ping()
            try:
                found = self._client.config_get("append*")
            except redis.ResponseError:  # hosted services hide their settings
                return False
        values = {_text(name): _text(value) for name, value in found.items()}
        return values.get("appendonly") == "yes" and values.get("appendfsync") == "always"

    def _read_once(self, key: str, work: Callable[[Rows], T]) -> T:
        with self._translated():
            memory = self._memory(key)
            try:
                return work(Buffered(memory))
            except (StoreCorrupt, StoreNotFound):
                if memory.is_outrun():
                    raise Outrun from None
                raise

    def _write_once(self, key: str, work: Callable[[Rows], T]) -> T:
        with self._translated():
            memory = self._memory(key)
            changes = Buffered(memory)
            try:
                result = work(changes)
            except (StoreCorrupt, StoreNotFound):
                if memory.is_outrun():
                    raise Outrun from None
                raise
        if changes:
            with self._translated(writing=True):
                staged, steps = commands(self._space, key, memory, changes)
                pipeline = self._client.pipeline(transaction=False)
                for name, value in staged.items():
                    pipeline.set(name, value, ex=3600)
                keys = [self._space.of(key, b"m")]
                pipeline.eval(
                    SCRIPT, len(keys), *keys, memory.revision, len(staged), *staged, *steps
                )
                if pipeline.execute()[-1] != 1:
                    raise Outrun
        return result

    def _memory(self, key: str) -> RedisMemory:
        if self._process != os.getpid():  # forked: the connections are the parent's
            self._process, self._client = os.getpid(), self._connect()
        return RedisMemory(self._client, self._space, key, self._skew)

    def _names(self, prefix: str, after: str, limit: int | None) -> list[str]:
        start = prefix.encode("utf-8", "surrogatepass")
        found: list[bytes] = []

        def page(low: bytes) -> tuple[list[bytes], set[bytes]]:
            with self._translated():
                pipeline = self._client.pipeline(transaction=False)
                # No byte of UTF-8 is 0xFF, so this is beyond everything that starts so.
                pipeline.zrangebylex(self._space.names, low, b"(" + start + b"\xff", 0, _PAGE)
                pipeline.time()
                names, time = pipeline.execute()
                now = time[0] + time[1] / 1e6 + self._skew
                gone = self._client.zrangebyscore(self._space.expiry, "-inf", now)
                return names, set(gone)

        last = after.encode("utf-8", "surrogatepass")
        low = b"(" + last if last >= start else b"[" + start
        while limit is None or len(found) < limit:
            names, gone = self._persist(lambda low=low: page(low))  # type: ignore[misc]
            found += [name for name in names if name not in gone]
            if len(names) < _PAGE:
                break
            low = b"(" + names[-1]
        return [key_of(name) for name in found[:limit]]

    def _expired(self) -> list[str]:
        def expired() -> list[bytes]:
            with self._translated():
                seconds, micros = self._client.time()
                now = seconds + micros / 1e6 + self._skew
                return list(self._client.zrangebyscore(self._space.expiry, "-inf", now))

        return sorted(map(key_of, self._persist(expired)))

    def _close(self) -> None:
        if self._gate.close() and self._process == os.getpid():
            self._client.close()

    @contextmanager
    def _translated(self, *, writing: bool = False) -> Iterator[None]:
        try:
            yield
        except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as exc:
            raise StoreUnavailable(f"{self._place}: {exc}; give a user that may use it") from exc
        except redis.exceptions.BusyLoadingError as exc:
            raise Lost(f"the server is still loading ({exc}).") from exc
        except (redis.ConnectionError, redis.TimeoutError, OSError) as exc:
            message = f"the server cannot be reached ({exc}); check address and server."
            raise Lost(message, in_doubt=writing) from exc
        except redis.exceptions.OutOfMemoryError as exc:
            raise StoreUnavailable(
                f"{self._place}: its memory is full; nothing was written, raise maxmemory ({exc})"
            ) from exc
        except redis.exceptions.ReadOnlyError as exc:
            raise StoreUnavailable(
                f"{self._place}: open for reading only; connect to the primary ({exc})"
            ) from exc
        except redis.RedisError as exc:
            if "OOM" in str(exc):
                raise StoreUnavailable(
                    f"{self._place}: its memory is full; nothing was written, raise maxmemory"
                ) from exc
            raise StoreUnavailable(f"{self._place} cannot be used ({exc})") from exc


def _place(url: str) -> str:
    """Host and port, without a password."""
    try:
        parts = urlsplit(url)
        return f"{parts.hostname}:{parts.port or 6379}"
    except ValueError:
        return "an address"


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
