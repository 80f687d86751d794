"""Complete answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reactivex import Observable

from ..answer import Answer
from ..events import AnswerCompleted, Cancelled, Failed, GenerationStarted

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactivex import abc


def answers() -> Callable[[Observable[Any]], Observable[Answer]]:
    """Each answer when it is complete, before memory is updated::

        source     --Q-S-T-T-A-U-D-Q-S-T-C-|
        answers()
                   ----------A-------------|

    An answer whose beginning was not seen has ``read_version`` -1.
    """

    def operator(source: Observable[Any]) -> Observable[Answer]:
        def subscribe(
            observer: abc.ObserverBase[Answer], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            read: dict[str, int] = {}

            def on_next(event: Any) -> None:
                match event:
                    case GenerationStarted():
                        read[event.interaction] = event.read_version
                    case Cancelled() | Failed():
                        read.pop(event.interaction, None)
                    case AnswerCompleted():
                        observer.on_next(
                            Answer(
                                text=event.text,
                                token_ids=event.token_ids,
                                finish_reason=event.finish_reason,
                                usage=event.usage,
                                interaction=event.interaction,
                                conversation=event.conversation,
                                read_version=read.pop(event.interaction, -1),
                                thinking=event.thinking,
                                tool_call=event.tool_call,
                            )
                        )

            return source.subscribe(
                on_next, observer.on_error, observer.on_completed, scheduler=scheduler
            )

        return Observable(subscribe)

    return operator
