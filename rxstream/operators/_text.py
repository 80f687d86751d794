"""The text of answers as it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from reactivex import Observable

from ..events import Token
from ..model import Channel

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactivex import abc


def text(channel: Channel = "answer") -> Callable[[Observable[Any]], Observable[str]]:
    """The pieces of text of one channel; tokens without text give nothing::

    source  --Q-S-T("Hel")-T("")-T("lo")-A-U-D-|
    text()
            ------"Hel"----------"lo"----------|

    Raises ``ValueError`` for a channel that does not exist.
    """

    if channel not in get_args(Channel):
        raise ValueError(f"channel must be one of {', '.join(get_args(Channel))}, not {channel!r}")

    def operator(source: Observable[Any]) -> Observable[str]:
        def subscribe(
            observer: abc.ObserverBase[str], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            def on_next(event: Any) -> None:
                if isinstance(event, Token) and event.text and event.channel == channel:
                    observer.on_next(event.text)

            return source.subscribe(
                on_next, observer.on_error, observer.on_completed, scheduler=scheduler
            )

        return Observable(subscribe)

    return operator
