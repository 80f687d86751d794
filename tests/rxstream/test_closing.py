"""The end of a runtime: closed, dropped, forgotten, forked, interrupted."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import weakref

import pytest

from rxstream import Runtime
from rxstream.errors import (
    ClosedError,
    InteractionCancelled,
    QueryRejected,
)
from rxstream.grammar import check
from rxstream.stores.memory import MemoryStore
from rxstream.testing import FakeModel, Recorder


@pytest.fixture
def model():
    model = FakeModel()
    yield model
    model.check()


def test_close_ends_everything(model):
    threads = threading.active_count()
    runtime = Runtime(model)
    memory = runtime.memory("m")
    streams = [Recorder(s) for s in (memory.events, memory.changes, memory.persisted)]
    streams.append(Recorder(memory.conversation().events))
    pause = model.pause("step")
    generating = memory.conversation().ask("generating")
    queued = memory.conversation().ask("queued")
    pause.wait_until_reached()
    closing = threading.Thread(target=runtime.close)
    closing.start()
    for it in (queued, generating):
        for _ in it.blocking():
            pass
        assert Recorder(it).items[-1].reason == "shutdown"
    pause.release()
    closing.join()
    runtime.close()
    assert all(s.ended for s in streams)
    check(streams[0].items, whole=True).finish()
    assert threading.active_count() == threads
    with pytest.raises(ClosedError):
        runtime.memory("other")
    with pytest.raises(QueryRejected):
        memory.conversation().ask("late")
    assert Recorder(memory.events).ended, "a stream of a closed memory is over"
    assert Recorder(memory.conversation("new").events).ended


def test_close_can_drain(model):
    runtime = Runtime(model)
    memory = runtime.memory("m")
    it = memory.conversation().ask("long 40")
    started = threading.Event()
    it.subscribe(lambda e: started.set() if e.kind == "generation_started" else None)
    started.wait(30)
    assert runtime.close(drain=True) is True
    assert it.result().usage.answer_tokens == 40
    assert memory.version == 1


def test_close_releases_decodings_while_another_thread_is_about_to_kick(model):
    pause = model.pause("start", after=True)
    runtime = Runtime(model)
    it = runtime.memory("m").conversation().ask("hello")
    pause.wait_until_reached()
    runtime._core.engine.loop._kicked = True  # as of a thread that is interrupted inside kick()
    closing = threading.Thread(target=runtime.close)
    closing.start()
    with pytest.raises(InteractionCancelled):
        it.result(30)
    pause.release()
    closing.join()
    model.check()


def test_close_finishes_a_running_update(model):
    store = MemoryStore()
    pause = model.pause("encode")
    runtime = Runtime(model, store=store)
    it = runtime.memory("m").conversation().ask("hello")
    pause.wait_until_reached()
    closing = threading.Thread(target=runtime.close)
    closing.start()
    pause.release()
    closing.join()
    assert it.is_over and store.head("m") == 1


def test_a_model_that_hangs_does_not_hang_close(model, caplog):
    pause = model.pause("encode")
    store = MemoryStore()
    runtime = Runtime(model, store=store)
    memory = runtime.memory("m")
    events = Recorder(memory.events)
    it = memory.conversation().ask("hello")
    pause.wait_until_reached()
    assert runtime.close(grace=0.0) is False
    assert it.is_over and it.result().text == "hello #0"
    assert events.wait().ended and events.items[-1].kind == "memory_failed"
    assert "still busy" in caplog.text
    pause.release()


def test_owned_stores_are_closed_and_others_are_not(model):
    store = MemoryStore()
    with Runtime(model, store=store) as runtime:
        runtime.memory("m")
    assert store.head("m") is None
    with Runtime(FakeModel()) as runtime:
        owned = runtime._core.engine.store
    with pytest.raises(ClosedError):
        owned.head("m")


def test_a_dropped_runtime_is_closed_with_a_warning():
    runtime = Runtime(FakeModel())
    runtime.memory("m").conversation().ask("hello").result(30)
    closed = runtime._core.closed
    with pytest.warns(ResourceWarning, match="with Runtime"):
        del runtime
        gc.collect()
    assert closed.result(30)


def test_nothing_keeps_what_is_over(model):
    with Runtime(model) as runtime:
        chat = runtime.memory("m").conversation()
        it = chat.ask("hello")
        seen = Recorder(it)
        for _ in it.blocking():
            pass
        runtime.memory("m").flush().result(30)
        chat.ask("next").result(30)
        dead = [weakref.ref(it), weakref.ref(it._turn), weakref.ref(seen)]
        del it, seen
        gc.collect()
        assert [ref() for ref in dead] == [None] * 3


def test_a_program_that_forgets_to_close(tmp_path):
    program = textwrap.dedent(f"""
        from rxstream import Runtime
        from rxstream.testing import FakeModel
        runtime = Runtime(FakeModel(), store="sqlite:///{tmp_path}/m.db", durability="close")
        print(runtime.memory("m").conversation().ask("hello").result(30).text)
    """)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "hello #0\n" and done.stderr == ""
    with Runtime(FakeModel(), store=f"sqlite:///{tmp_path}/m.db") as runtime:
        assert runtime.memory("m").info().stored == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork(tmp_path):
    program = textwrap.dedent("""
        import os, sys
        from rxstream import Runtime
        from rxstream.errors import ForkedRuntimeError
        from rxstream.testing import FakeModel
        with Runtime(FakeModel()) as runtime:
            memory = runtime.memory("m")
            chat = memory.conversation()
            it = chat.ask("hello")
            it.result(30)
            child = os.fork()
            if not child:
                refused = 0
                for call in (lambda: chat.ask("x"), lambda: runtime.memory("m"), memory.snapshot,
                             it.result, it.cancel, memory.flush, runtime.close, runtime.stats,
                             it.subscribe, it.blocking, memory.events.iter):
                    try:
                        call()
                    except ForkedRuntimeError:
                        refused += 1
                os._exit(refused)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            print(chat.ask("again").result(30).text)
    """)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "11\nagain #1\n", done.stderr


def test_an_exit_on_a_lane_closes_the_runtime(model, caplog):
    runtime = Runtime(model)
    memory = runtime.memory("m")

    def leave(event):
        if event.kind == "token":
            raise SystemExit

    memory.events.subscribe(leave)
    it = memory.conversation().ask("long 50")
    assert runtime._core.closed.result(30)
    assert it.is_over
