"""The calls of an object store, made with obstore; errors as those of a store."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import obstore
from obstore import exceptions
from obstore.store import S3Store

from rxstream._hashing import STREAMED
from rxstream.errors import StoreUnavailable
from rxstream.stores.remote import Lost

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime


class BucketObjects:
    """``Objects`` in a bucket, under a prefix. Raises ``Lost`` and ``StoreUnavailable``."""

    def __init__(self, name: str, prefix: str, options: Mapping[str, Any]) -> None:
        self._name = name
        plain = str(options.get("endpoint", "")).startswith("http:")
        try:
            self._bucket = S3Store(
                name,
                prefix=prefix or None,
                # A conditional write that is tried again unseen would find its own first try.
                retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=30)},
                client_options={"allow_http": plain, "timeout": "60 seconds"},
                **options,
            )
        except exceptions.BaseError as exc:
            reason = _first_line(exc)
            raise StoreUnavailable(f"bucket {name}: {reason}; check the address") from exc

    def get(self, name: str) -> tuple[bytes, str] | None:
        with self._translated():
            try:
                found = obstore.get(self._bucket, name)
                return bytes(found.bytes()), str(found.meta["e_tag"])
            except FileNotFoundError as exc:
                self._check_bucket(exc)
                return None

    def stream(self, name: str) -> tuple[int, Iterator[bytes]] | None:
        with self._translated():
            try:
                found = obstore.get(self._bucket, name)
                return int(found.meta["size"]), self._chunks(found)
            except FileNotFoundError as exc:
                self._check_bucket(exc)
                return None

    def _chunks(self, found: obstore.GetResult) -> Iterator[bytes]:
        with self._translated():
            yield from map(bytes, found.stream(STREAMED))

    def get_start(self, name: str, size: int) -> bytes | None:
        with self._translated():
            try:
                return bytes(obstore.get_range(self._bucket, name, start=0, end=size))
            except FileNotFoundError as exc:
                self._check_bucket(exc)
                return None

    def create(self, name: str, data: bytes) -> bool:
        with self._translated():
            return self._put(name, data, "create") is not None

    def swap(self, name: str, tag: str | None, data: bytes) -> str | None:
        with self._translated(in_doubt=True):
            return self._put(name, data, "create" if tag is None else {"e_tag": tag})

    def _put(self, name: str, data: bytes, mode: Any) -> str | None:
        """The tag of the object; None when the condition is not met."""
        try:
            put = obstore.put(self._bucket, name, data, mode=mode, use_multipart=False)
        except (exceptions.PreconditionError, exceptions.AlreadyExistsError):
            # The second is S3's "409 conflicting operation", too: another one came at that moment.
            return None
        except FileNotFoundError as exc:
            self._check_bucket(exc)
            if mode == "create":
                raise
            return None
        return str(put["e_tag"] or "")

    def remove(self, names: Sequence[str]) -> None:
        if names:
            with self._translated():
                obstore.delete(self._bucket, list(names))

    def listed(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        with self._translated():
            for page in obstore.list(self._bucket, prefix or None):
                for found in page:
                    yield found["path"], found["last_modified"]

    def _check_bucket(self, exc: FileNotFoundError) -> None:
        if "NoSuchBucket" in str(exc):
            raise StoreUnavailable(f"bucket {self._name} does not exist; create it") from exc

    @contextmanager
    def _translated(self, *, in_doubt: bool = False) -> Iterator[None]:
        try:
            yield
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as exc:
            raise StoreUnavailable(
                f"bucket {self._name}: not permitted; set AWS_ACCESS_KEY_ID and "
                f"AWS_SECRET_ACCESS_KEY, or grant it ({_first_line(exc)})"
            ) from exc
        except exceptions.NotSupportedError as exc:
            raise StoreUnavailable(
                f"bucket {self._name} does not know conditional writes; use another service"
            ) from exc
        except FileNotFoundError as exc:
            self._check_bucket(exc)
            raise StoreUnavailable(f"bucket {self._name}: {_first_line(exc)}") from exc
        except (exceptions.BaseError, OSError) as exc:
            message = f"the service cannot be reached ({_first_line(exc)}); check address and keys."
            raise Lost(message, in_doubt=in_doubt) from exc
        except Lost as exc:
            raise Lost(str(exc), in_doubt=in_doubt or exc.in_doubt) from exc


def _first_line(exc: Exception) -> str:
    return str(exc).partition("\n")[0][:300]
