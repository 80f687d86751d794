"""A store that fails as a network does, by a seed."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any

from ..errors import StoreUnavailable
from ..stores.metered import METERED
from ..stores.wrapper import StoreWrapper

if TYPE_CHECKING:
    from ..store import Store


class ChaosStore(StoreWrapper):
    """Raises ``StoreUnavailable`` before a call with chance ``before``, and after one, which then
    has taken effect, with chance ``after``. ``only`` names the methods that may fail.

    The chances are drawn from ``seed``: calls made in the same order fail in the same order.
    ``failures`` counts them. Set ``calm`` to have everything succeed.
    """

    def __init__(
        self,
        inner: Store,
        *,
        seed: int = 0,
        before: float = 0.1,
        after: float = 0.1,
        only: frozenset[str] | None = None,
    ) -> None:
        super().__init__(inner)
        self._random, self._lock = random.Random(seed), threading.Lock()
        self._before, self._after, self._only = before, after, only
        self.failures = 0
        self.calm = False

    def _fails(self, method: str, chance: float) -> bool:
        with self._lock:
            drawn = self._random.random()
            if (
                self.calm
                or drawn >= chance
                or (self._only is not None and method not in self._only)
            ):
                return False
            self.failures += 1
            return True


def _failing(name: str) -> Any:
    passed_on = getattr(StoreWrapper, name)

    def method(self: ChaosStore, *args: Any, **options: Any) -> Any:
        if self._fails(name, self._before):
            raise StoreUnavailable(f"chaos: {name} did not reach the store; try again")
        result = passed_on(self, *args, **options)
        if self._fails(name, self._after):
            raise StoreUnavailable(f"chaos: the answer to {name} was lost; try again")
        return result

    return method


for _name in METERED:
    setattr(ChaosStore, _name, _failing(_name))
