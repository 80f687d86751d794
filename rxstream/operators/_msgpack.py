"""Events as bytes and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgpack
from reactivex import Observable

from ..wire import from_wire, to_wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactivex import abc

    from ..events import Event, Gap


def _mapped(function: Callable[[Any], Any]) -> Callable[[Observable[Any]], Observable[Any]]:
    """``map``, but an error of ``function`` ends the stream even where the source is a Subject."""

    def operator(source: Observable[Any]) -> Observable[Any]:
        def subscribe(
            observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            def on_next(item: Any) -> None:
                try:
                    result = function(item)
                except Exception as error:
                    observer.on_error(error)
                else:
                    observer.on_next(result)

            return source.subscribe(
                on_next, observer.on_error, observer.on_completed, scheduler=scheduler
            )

        return Observable(subscribe)

    return operator


def _unpack(data: bytes) -> Event | Gap:
    try:
        wire = msgpack.unpackb(data)
    except Exception as error:  # msgpack has no common base class for what it raises.
        raise ValueError(f"not an event: {len(data)} bytes are no msgpack value") from error
    if not isinstance(wire, dict):
        raise ValueError(f"not an event: a msgpack {type(wire).__name__}, expected a map")
    return from_wire(wire)


def to_msgpack() -> Callable[[Observable[Any]], Observable[bytes]]:
    """Each event as one msgpack map, as of ``rxstream.wire.to_wire``."""
    return _mapped(lambda event: msgpack.packb(to_wire(event)))


def from_msgpack() -> Callable[[Observable[bytes]], Observable[Event | Gap]]:
    """Inverse of ``to_msgpack``. Bytes that are no event end the stream with ``ValueError``."""
    return _mapped(_unpack)
