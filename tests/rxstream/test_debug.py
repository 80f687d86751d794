"""RXSTREAM_DEBUG: who asked, who holds a lane up, who forgot to close; and nothing when off."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import threading

import pytest
from reactivex import operators as ops
from reactivex.subject import Subject

from rxstream import Runtime, _debug
from rxstream.errors import GenerationError, InteractionCancelled, MemoryUpdateError
from rxstream.operators import interact
from rxstream.testing import FakeModel, Lab, Recorder

from .room import Room


@pytest.fixture
def debugging(monkeypatch):
    monkeypatch.setattr(_debug, "enabled", True)


def notes(error):
    return "\n".join(getattr(error, "__notes__", []))


@pytest.mark.parametrize(
    "method, times, error", [("step", 1, GenerationError), ("encode", 2, MemoryUpdateError)]
)
def test_an_error_names_the_line_that_asked(debugging, method, times, error) -> None:
    room = Room()
    room.model.fail(method, RuntimeError("broken"), times=times)
    it = room.chat.ask("one")  # this very line
    room.lab.run()
    found = Recorder(it).error
    assert isinstance(found, error)
    line = test_an_error_names_the_line_that_asked.__code__.co_firstlineno + 6
    assert f"asked at {__file__}:{line} in test_an_error_names" in notes(found)
    room.close()


def test_a_cancellation_names_the_line_that_asked(debugging) -> None:
    room = Room()
    it = room.chat.ask("one")
    it.cancel()
    with pytest.raises(InteractionCancelled) as caught:
        it.result()
    assert f"asked at {__file__}" in notes(caught.value)
    room.close()


def test_a_pipeline_names_the_line_that_fed_it(debugging) -> None:
    room = Room()
    room.model.fail("step", RuntimeError("broken"))
    queries: Subject[str] = Subject()
    failed = []
    queries.pipe(interact(room.memory), ops.map(lambda e: e)).subscribe()
    room.memory.events.subscribe(lambda e: failed.append(e) if e.kind == "failed" else None)
    machine, explained = room.memory._machine, []
    explain = machine.explain
    machine.explain = lambda *a: explained.append(explain(*a)) or explained[-1]
    queries.on_next("one")
    room.lab.run()
    assert failed and f"asked at {__file__}" in notes(explained[0])
    room.close()


def test_nothing_is_noted_when_off() -> None:
    assert _debug.site() == ""
    room = Room()
    room.model.fail("step", RuntimeError("broken"))
    it = room.chat.ask("one")
    room.lab.run()
    assert "asked at" not in notes(Recorder(it).error)
    assert _debug.watched(print) is print
    room.close()


@pytest.mark.parametrize("seconds, told", [(0.08, True), (0.0, False)])
def test_a_subscriber_that_holds_a_lane_up_is_logged(debugging, caplog, seconds, told) -> None:
    with Runtime(FakeModel()) as runtime:
        memory = runtime.memory("m")
        held = threading.Event()

        def my_subscriber(event):
            if event.kind == "token" and seconds:
                held.wait(seconds)

        memory.events.subscribe(my_subscriber)
        memory.conversation().ask("one").result(30)
    assert ("held the lane 'decode' up" in caplog.text) is told
    assert ("my_subscriber" in caplog.text and "with token" in caplog.text) is told


def test_a_slow_subscriber_on_a_thread_of_the_user_is_his_own_affair(debugging, caplog) -> None:
    room = Room()
    room.memory.events.subscribe(lambda event: threading.Event().wait(0.06))
    room.chat.ask("one").cancel()
    assert "held the lane" not in caplog.text
    room.close()


def test_a_raising_subscriber_is_isolated_as_ever(debugging) -> None:
    room = Room()
    errors: list[Exception] = []
    room.memory.events.subscribe(lambda event: 1 / 0, errors.append)
    room.chat.ask("one")
    room.lab.run()
    assert isinstance(errors[0], ZeroDivisionError)
    room.close()


def test_a_dropped_runtime_names_the_line_that_made_it(debugging) -> None:
    runtime = Runtime(FakeModel(), lanes=Lab())
    closed = runtime._core.closed
    with pytest.warns(ResourceWarning, match=rf"made at {__file__}:\d+ in test_a_dropped"):
        del runtime
        gc.collect()
    assert closed.result(30) in (True, False)


@pytest.mark.parametrize("value, told", [("1", True), ("0", False), ("", False)])
def test_the_environment_turns_it_on(value, told, tmp_path) -> None:
    program = textwrap.dedent("""
        from rxstream import Runtime
        from rxstream.testing import FakeModel
        runtime = Runtime(FakeModel())
        print(runtime.memory("m").conversation().ask("hello").result(30).text)
    """)
    path = tmp_path / "forgetful.py"
    path.write_text(program)
    done = subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"RXSTREAM_DEBUG": value, "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout == "hello #0\n"
    expected = f"a Runtime (made at {path}:4 in <module>) was still open when the program ended"
    assert (expected in done.stderr) is told
    assert told or done.stderr == ""
