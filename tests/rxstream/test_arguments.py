"""What is wrong is refused at once, with both values named, and nothing is queued or stored."""

from __future__ import annotations

import pytest
import reactivex as rx

import rxstream
from rxstream import Runtime, Timeouts, operators
from rxstream.errors import ClosedError, QueryRejected, VersionConflict
from rxstream.testing import FakeModel

from .room import Room

WRONG = {
    "query": (TypeError, "a query must be of type str", lambda room: room.chat.ask(5)),
    "sampling": (TypeError, "not dict", lambda room: room.chat.ask("a", sampling={"top_k": 1})),
    "timeouts": (TypeError, "not int", lambda room: room.chat.ask("a", timeouts=5)),
    "key": (TypeError, "an idempotency key", lambda room: room.chat.ask("a", key=5)),
    "empty key": (ValueError, "1 to 512 bytes, not 0", lambda room: room.chat.ask("a", key="")),
    "long key": (ValueError, "not 513", lambda room: room.chat.ask("a", key="k" * 513)),
    "half a character in a key": (
        *(ValueError, "valid Unicode"),
        lambda room: room.chat.ask("a", key="\ud800"),
    ),
    "half a character in a query": (
        *(QueryRejected, "surrogates not allowed"),
        lambda room: room.chat.ask("\ud800"),
    ),
    "detach": (ValueError, "not 'never'", lambda room: room.chat.ask("a", detach="never")),
    "answer": (TypeError, "an answer", lambda room: room.chat.remember("q", None)),
    "conversation": (TypeError, "not int", lambda room: room.memory.conversation(5)),
    "no conversation": (ValueError, "not 0", lambda room: room.memory.conversation("")),
    "label": (TypeError, "a label", lambda room: room.memory.conversation("l", label=5)),
    "memory": (TypeError, "a memory name", lambda room: room.runtime.memory(5)),
    "tenant": (TypeError, "not int", lambda room: room.runtime.memory("t", tenant=5)),
    "snapshot": (TypeError, "Snapshot, not int", lambda room: room.runtime.memory("s", snapshot=5)),
    "restore": (TypeError, "Snapshot, not int", lambda room: room.memory.restore(5)),
    "as an observer": (TypeError, "Snapshot, not str", lambda room: room.memory.on_next("x")),
    "fork": (VersionConflict, "fork to another name", lambda room: room.memory.fork("m")),
    "fork to no name": (TypeError, "not NoneType", lambda room: room.memory.fork(None)),
    "overflow": (ValueError, "not 'x'", lambda room: room.memory.events.iter(overflow="x")),
    "interact": (
        *(TypeError, "ShortTermMemory, not NoneType"),
        lambda room: rx.of("a").pipe(operators.interact(None)),
    ),
    "busy": (
        *(ValueError, "not 'q'"),
        lambda room: rx.of("a").pipe(operators.interact(room.memory, busy="q")),
    ),
    "an item": (
        *(TypeError, "not int"),
        lambda room: rx.of(1).pipe(operators.interact(room.memory)).run(),
    ),
    "channel": (ValueError, "answer, thinking", lambda room: operators.text("loud")),
    "type": (TypeError, "'token'", lambda room: operators.of("token")),
    "aiter": (TypeError, "Observable, not list", lambda room: rxstream.aiter([1])),
    "blocking": (TypeError, "Observable, not list", lambda room: rxstream.blocking([1])),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_refused_and_leaves_everything_as_it_was(what) -> None:
    error, told, wrong = WRONG[what]
    room = Room()
    with pytest.raises(error, match=told):
        wrong(room)
    room.lab.run()
    assert {event.kind for event in room.events.items} <= {"query_rejected"}
    assert room.memory.version == 0 and room.runtime.stats().queued == 0
    it = room.chat.ask("one two", key="k")
    room.lab.run()
    assert room.word(it)[-1] == "D"
    room.close()
    assert room.store.head("m") == 1


@pytest.mark.parametrize(
    "limits",
    [
        *({name: value} for name in ("queued", "answer", "memory") for value in (0, -1, "5")),
        {"answer": float("nan")},
        {"on_timeout": "explode"},
    ],
)
def test_timeouts_are_positive_numbers_and_end_in_one_of_two_ways(limits) -> None:
    with pytest.raises(ValueError, match=r"must be (a positive number|'fail' or 'stop'), not"):
        Timeouts(**limits)


@pytest.mark.parametrize(
    "error, told, options",
    [
        (TypeError, "object is not a model: it has no fingerprint", {"model": object()}),
        (TypeError, "int is not a store: it has no append", {"store": 5}),
        (TypeError, "str is not a policy: it has no plan", {"policy": "fair"}),
        (ValueError, "not -1", {"grace": -1}),
        (ValueError, "not 0", {"max_queued": 0}),
        (ValueError, "not 'often'", {"durability": "often"}),
    ],
)
def test_a_runtime_of_wrong_parts_is_not_made_and_opens_nothing(
    error, told, options, tmp_path
) -> None:
    model = options.pop("model", FakeModel())
    with pytest.raises(error, match=told):
        Runtime(model, **{"store": f"sqlite:///{tmp_path}/m.db", **options})
    assert not list(tmp_path.iterdir())


def test_after_closing_a_snapshot_says_why_there_is_none() -> None:
    with Runtime(FakeModel()) as runtime:
        memory = runtime.memory("m")
    with pytest.raises(ClosedError, match="the runtime is closed"):
        memory.snapshot()
