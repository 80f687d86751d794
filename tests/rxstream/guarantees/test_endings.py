"""G8: silence after cancel. G11: whatever was accepted ends, whatever breaks."""

from __future__ import annotations

import threading

import pytest

from rxstream import Runtime, Timeouts
from rxstream.errors import InteractionCancelled, RxStreamError, StoreUnavailable
from rxstream.grammar import check
from rxstream.hooks import hooks
from rxstream.lanes import Lanes
from rxstream.scheduling import Greedy, Plan
from rxstream.stores.memory import MemoryStore
from rxstream.testing import FakeModel, HandClock, Recorder

from ..room import PHASES, Room


@pytest.mark.parametrize("at", range(12))
def test_g8_no_token_comes_after_cancel_was_true(at) -> None:
    """Another thread cancels while the lane decodes; the ring of a slow subscriber is no excuse."""
    model = FakeModel()
    with Runtime(model) as runtime:
        memory = runtime.memory("m")
        reached, told = threading.Event(), []

        def on_next(event):
            told.append(event.kind)
            if len(told) == 2 + at:
                reached.set()

        memory.events.subscribe(on_next)
        it = memory.conversation().ask("long 60", detach="keep")
        assert reached.wait(30)
        won = it.cancel()
        known = Recorder(it).items
        ends = [event.kind for event in known].count("cancelled")
        memory.conversation().ask("later").result(30)
        assert ends == won
        assert Recorder(it).items == known if won else it.answer is not None
    model.check()


def test_g8_cancelling_inside_of_a_callback_makes_that_token_the_last() -> None:
    room = Room()
    it = room.chat.ask("long 9")
    told = []
    it.subscribe(lambda event: told.append((event.kind, event.kind == "token" and it.cancel())))
    room.lab.run()
    assert [kind for kind, _ in told][2:] == ["token", "cancelled"]
    assert [won for _, won in told][2] is True
    room.close()


@pytest.mark.parametrize("phase", PHASES)
def test_g8_cancel_is_false_exactly_when_the_answer_is_complete_or_it_is_over(phase) -> None:
    room = Room()
    it = room.bring(phase)
    assert it.cancel() is (it.answer is None)
    assert it.cancel() is False
    room.lab.run()
    for end in ("start", "step"):
        room.model.fail(end, RuntimeError())
        failed = room.chat.ask("one")
        room.lab.run()
        assert room.word(failed).endswith("F") and failed.cancel() is False
    room.close()


@pytest.mark.parametrize("drain", [False, True])
@pytest.mark.parametrize("phase", PHASES)
def test_g11_shutdown_ends_what_was_accepted(phase, drain) -> None:
    room = Room()
    it = room.bring(phase)
    behind = room.chat.ask("behind")
    room.runtime.close(drain=drain)
    assert it.is_over and behind.is_over
    finished = phase in ("updating", "over") or (drain and phase != "queued")
    assert room.word(it).endswith("D" if finished else "C")
    assert room.word(behind) == "QC"
    room.close()


@pytest.mark.parametrize("window", ["start", "step", "encode", "attend"])
def test_g11_shutdown_ends_what_hangs_when_the_grace_is_over(window, caplog) -> None:
    model, store = FakeModel(), MemoryStore()
    pause = model.pause(window)
    runtime = Runtime(model, store=store)
    memory = runtime.memory("m")
    events = Recorder(memory.events)
    its = [memory.conversation(name).ask("hello", detach="keep") for name in "ab"]
    pause.wait_until_reached()
    assert runtime.close(grace=0.0) is False
    assert all(it.is_over for it in its) and events.wait().ended
    check(events.items, whole=True).finish()
    assert "still busy" in caplog.text
    pause.release()


LIMITS = {
    "queued": Timeouts(queued=5),
    "answer": Timeouts(answer=5),
    "stop": Timeouts(answer=5, on_timeout="stop"),
    "first_token": Timeouts(first_token=5),
    "between_tokens": Timeouts(between_tokens=5),
    "memory": Timeouts(memory=5),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_g11_a_timeout_ends_what_hangs(limit) -> None:
    phase = {"queued": "queued", "first_token": "prefill", "memory": "updating"}.get(
        limit, "decoding"
    )
    room = Room()
    it = room.bring(phase, timeouts=LIMITS[limit])
    room.lab.skip(5)
    room.fire()
    assert it.is_over or it.answer is not None
    room.lab.run()
    assert it.is_over
    room.close()


@pytest.mark.parametrize("window", ["start", "step"])
def test_g11_a_timeout_ends_what_hangs_while_no_lane_moves(window) -> None:
    model, clock = FakeModel(), HandClock()
    pause = model.pause(window)
    lanes = Lanes.threads(thread_safe=False, clock=clock)
    with Runtime(model, lanes=lanes) as runtime:
        chat = runtime.memory("m").conversation()
        its = [chat.ask("hello", timeouts=Timeouts(answer=5)) for _ in range(3)]
        pause.wait_until_reached()
        clock.advance(5)
        assert all(it.is_over for it in its)
        pause.release()
    model.check()


class BrokenPolicy(Greedy):
    """Fails once in a way, then works."""

    def __init__(self, plan):
        super().__init__()
        self.broken = plan

    def plan(self, load):
        broken, self.broken = self.broken, super().plan
        return broken(load)


def _raise(load):
    raise RuntimeError("a policy that is broken")


WRONG_PLANS = {
    "raises": _raise,
    "nothing": lambda load: None,
    "out of range": lambda load: Plan(prefills=[7], updates=[]),
    "twice": lambda load: Plan(prefills=[0, 0], updates=[]),
    "too many": lambda load: Plan(prefills=range(len(load.prefills)), updates=[]),
}


def _ended(it):
    for _ in it.blocking(timeout=10):
        pass


@pytest.fixture
def quiet(monkeypatch):
    errors = []
    monkeypatch.setattr(hooks, "on_unhandled", errors.append)
    return errors


@pytest.mark.parametrize("wrong", WRONG_PLANS)
def test_g11_a_policy_that_is_broken_hangs_nobody(wrong, caplog) -> None:
    room = Room(model=FakeModel(max_batch=1), policy=BrokenPolicy(WRONG_PLANS[wrong]))
    others = [room.runtime.memory(name).conversation().ask("hello") for name in "ab"]
    room.lab.run()
    assert all(it.answer is not None for it in others)
    assert "policy" in caplog.text, "and says so"
    room.close()


@pytest.mark.parametrize("method", ["start", "step", "encode", "attend"])
def test_g11_a_model_that_returns_nonsense_hangs_nobody(method, quiet) -> None:
    """The right number of results, of the wrong type."""
    model = FakeModel()
    with Runtime(model) as runtime:
        memory = runtime.memory("m")
        events = Recorder(memory.events)
        original = getattr(model, method)
        setattr(model, method, lambda *args: [None for _ in original(*args)])
        it = memory.conversation().ask("hello", detach="keep")
        if method in ("encode", "attend"):
            _ended(it)  # to the runtime a memory of None is a memory
        else:
            with pytest.raises(RxStreamError):
                _ended(it)
        setattr(model, method, original)
        memory.conversation().ask("and now", remember=False).blocking(timeout=10)
    check(events.items, whole=True).finish()


@pytest.mark.parametrize("durability", ["sync", "async", "close"])
@pytest.mark.parametrize("method", ["append", "commit"])
def test_g11_a_store_that_fails_hangs_nobody(method, durability) -> None:
    class Fails(MemoryStore):
        pass

    def fail(self, *args, **options):
        raise StoreUnavailable("no disk")

    setattr(Fails, method, fail)
    room = Room(store=Fails(), durability=durability)
    its = [room.chat.ask(f"query {n}") for n in range(3)]
    room.lab.run()
    assert all(it.is_over for it in its)
    room.close()


def test_g11_a_lane_that_must_end_the_program_ends_everything_first(quiet) -> None:
    model = FakeModel()
    window = model.pause("step")
    model.on("step", lambda _: (_ for _ in ()).throw(SystemExit()))
    runtime = Runtime(model)
    memory = runtime.memory("m")
    events = Recorder(memory.events)
    its = [memory.conversation(name).ask("hello", detach="keep") for name in "abc"]
    window.release()
    for it in its:
        with pytest.raises(InteractionCancelled):
            it.result(30)
    assert runtime._core.closed.result(30)
    assert all(it.is_over for it in its) and events.ended
    check(events.items, whole=True).finish()
