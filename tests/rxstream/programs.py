"""What random programs are made of: queries, policies, timeouts, and a store that fails."""

from __future__ import annotations

from hypothesis import strategies as st

from rxstream import Timeouts
from rxstream.errors import RxStreamError, StoreUnavailable
from rxstream.stores.memory import MemoryStore

CONVERSATIONS = ("a", "b", "c")
BUSY = {
    "serial": ("enqueue", "reject", "switch"),
    "snapshot": ("enqueue", "parallel", "switch", "reject"),
}
QUERIES = ("hello", "long 5", "mute", "recall", "two words")
METHODS = ("start", "step", "encode", "attend", "dump", "load")
REFUSALS = {"queue_full", "duplicate", "busy", "halted"}

LIMITS = [
    None,
    None,
    None,
    Timeouts(queued=3),
    Timeouts(first_token=2, memory=2),
    Timeouts(answer=4, on_timeout="stop"),
    Timeouts(between_tokens=1, memory=5),
]
ASKED = st.tuples(
    st.sampled_from(CONVERSATIONS),
    st.sampled_from(QUERIES),
    st.one_of(st.none(), st.none(), st.sampled_from(["k1", "k2", "k3"])),
    st.sampled_from(["cancel", "keep"]),
    st.sampled_from(LIMITS),
    st.sampled_from([True, True, True, False]),
    st.integers(0, 9),
)


class FaultyStore(MemoryStore):
    """Fails as often as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.faults = {"append": 0, "commit": 0}

    def append(self, key, record):
        self._fail("append")
        return super().append(key, record)

    def commit(self, snapshot, *, expect):
        self._fail("commit")
        super().commit(snapshot, expect=expect)

    def _fail(self, method):
        if self.faults[method]:
            self.faults[method] -= 1
            raise StoreUnavailable(f"cannot {method}")


def succeeded(pending):
    try:
        pending.result()
    except RxStreamError:
        return False
    except RuntimeError as error:
        assert "broken" in str(error)
        return False
    return True
