"""The runtime as users meet it: threads, asyncio, trio; stores; closing; misuse."""

from __future__ import annotations

import subprocess
import sys
import threading

import anyio
import pytest
from reactivex.testing import TestScheduler

import rxstream
from rxstream import Runtime, operators
from rxstream.errors import (
    BackpressureDeadlock,
    InteractionCancelled,
    QueryRejected,
    SnapshotIncompatible,
    StoreUnavailable,
)
from rxstream.lanes import Lanes
from rxstream.scheduling import Budgeted
from rxstream.snapshot import write_file
from rxstream.stores.memory import MemoryStore
from rxstream.testing import FakeModel, Pause, Recorder


@pytest.fixture
def model():
    model = FakeModel()
    yield model
    model.check()


def test_a_ctrl_c_while_the_lane_is_called_does_not_stop_the_lane_for_ever(model, monkeypatch):
    with Runtime(model) as runtime:
        chat = runtime.memory("m").conversation()
        lane = runtime._core.engine.lanes.decode
        with monkeypatch.context() as patch:

            def interrupted(action):
                raise KeyboardInterrupt

            patch.setattr(lane, "submit", interrupted)
            with pytest.raises(KeyboardInterrupt):
                chat.ask("one")
        assert chat.ask("two").result(timeout=30).text == "two #1"


# The five lines


def test_threads(model, tmp_path):
    store = f"sqlite:///{tmp_path}/memories.db"
    with Runtime(model, store=store) as runtime:
        chat = runtime.memory("user-42").conversation("main")
        it = chat.ask("Tell me a story")
        texts = Recorder(it.pipe(operators.text()))
        assert it.result(timeout=30).text == "Tell me a story #0"
        for _ in it.blocking():
            pass
        assert "".join(texts.items) == "Tell me a story #0"
    with Runtime(FakeModel(), store=store) as runtime:
        memory = runtime.memory("user-42")
        assert memory.value == ("Tell me a story -> Tell me a story #0",)
        assert memory.info().stored == memory.version == 1


async def test_event_loops(model, tmp_path):
    async with Runtime(model, store=f"sqlite:///{tmp_path}/memories.db") as runtime:
        memory = await runtime.amemory("user-42")
        chat = memory.conversation("main")
        it = chat.ask("Tell me a story")
        texts = Recorder(it.pipe(operators.text()))
        answer = await it
        assert answer.text == "Tell me a story #0" == (await it).text
        kinds = [event.kind async for event in it]
        assert kinds[-1] == "memory_updated" and "".join(texts.items) == answer.text
        assert await memory.flush() == 1
        pause = Pause()
        model.on("step", lambda decodings: pause() if decodings[0].position == 5 else None)
        async with chat.ask("long 30") as second:
            async for event in second.iter(overflow="block"):
                if event.kind == "token" and event.index == 3:
                    break
        pause.release()
        with pytest.raises(InteractionCancelled):
            await second
        restored = memory.restore(await anyio.to_thread.run_sync(memory.snapshot))
        assert await restored == 2


async def test_giving_up_waiting_cancels(model):
    pause = model.pause("step")
    async with Runtime(model) as runtime:
        it = runtime.memory("m").conversation().ask("hello")
        await anyio.to_thread.run_sync(pause.wait_until_reached)
        with anyio.move_on_after(0):
            await it
        assert it.is_over and Recorder(it).items[-1].reason == "detached"
        kept = runtime.memory("m").conversation().ask("hello", detach="keep")
        with anyio.move_on_after(0):
            await kept
        pause.release()
        assert (await kept).text == "hello #0"


async def test_many_tasks(model):
    async with Runtime(model) as runtime:
        chats = [runtime.memory(f"m{i}").conversation() for i in range(20)]
        results = {}

        async def talk(i):
            for n in range(3):
                results[i, n] = (await chats[i].ask(f"{i}")).text

        async with anyio.create_task_group() as tasks:
            for i in range(20):
                tasks.start_soon(talk, i)
    assert results == {(i, n): f"{i} #{n}" for i in range(20) for n in range(3)}


# Waiting in the wrong place


async def test_result_on_a_loop(model):
    pause = model.pause("step")
    async with Runtime(model) as runtime:
        it = runtime.memory("m").conversation().ask("hello")
        with pytest.raises(BackpressureDeadlock, match="await"):
            it.result()
        pause.release()
        await it
        assert it.result().text == "hello #0", "no waiting, no problem"
        others = await anyio.to_thread.run_sync(runtime.memory("m").conversation().ask("x").result)
        assert others.text == "x #1"


def test_waiting_on_a_lane(model):
    raised = []
    with Runtime(model) as runtime:
        memory = runtime.memory("m")

        def attempts(event):
            if event.kind != "token":
                return
            for attempt in (
                it.result,
                lambda: runtime.memory("another"),
                runtime.close,
                lambda: memory.fork("f"),
            ):
                try:
                    attempt()
                except BackpressureDeadlock as error:
                    raised.append(error)
            assert memory.snapshot().version == 0, "this one is on the right lane"

        memory.events.subscribe(attempts)
        window = model.pause("start")
        it = memory.conversation().ask("hello")
        window.release()
        it.result(30)
    assert len(raised) == 8


def test_result_times_out_and_goes_on(model):
    pause = model.pause("step")
    with Runtime(model) as runtime:
        it = runtime.memory("m").conversation().ask("hello")
        with pytest.raises(TimeoutError):
            it.result(timeout=0)
        pause.release()
        assert it.result(30).text == "hello #0"


# Memories


def test_same_name_same_memory(model):
    with Runtime(model) as runtime:
        memory = runtime.memory("m", isolation="snapshot")
        assert runtime.memory("m") is memory
        with pytest.raises(ValueError, match="isolation='snapshot'"):
            runtime.memory("m", isolation="serial")
        with pytest.raises(ValueError, match="durability"):
            runtime.memory("x", durability="never")
        with pytest.raises(ValueError):
            runtime.memory("")


def test_opened_by_many_threads_once(model):
    found = []
    with Runtime(model) as runtime:
        threads = [
            threading.Thread(target=lambda: found.append(runtime.memory("m"))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(set(map(id, found))) == 1 and len(found) == 8


def test_snapshot_as_system_prompt(model, tmp_path):
    path = tmp_path / "prompt.stm.safetensors"
    store = MemoryStore()
    with Runtime(model, store=store) as runtime:
        teacher = runtime.memory("teacher")
        teacher.conversation().ask("you are kind").result(30)
        for _ in teacher.conversation().ask("be brief").blocking():
            pass
        write_file(path, teacher.snapshot())
        pupil = runtime.memory("pupil", snapshot=path)
        assert pupil.value == teacher.value and pupil.version == 1
        other = runtime.memory("other", snapshot=teacher.snapshot())
        it = other.conversation().ask("recall")
        assert it.result(30).text.startswith("you are kind")
        assert store.load("pupil", 1).kind == "import"
    with Runtime(FakeModel(), store=store) as runtime:
        known = runtime.memory("other", snapshot=path)
        assert len(known.value) == 3, "the store goes before the snapshot"
    with (
        Runtime(FakeModel(fingerprint="other")) as runtime,
        pytest.raises(SnapshotIncompatible, match="'fake-1'.*'other'"),
    ):
        runtime.memory("m", snapshot=path)


def test_release(model):
    with Runtime(model, durability="close") as runtime:
        memory = runtime.memory("m")
        it = memory.conversation().ask("hello")
        it.result(30)
        assert runtime.release("m") and it.is_over
        with pytest.raises(QueryRejected, match="closed"):
            memory.conversation().ask("late")
        again = runtime.memory("m")
        assert again is not memory and again.value == memory.value and again.version == 1
        assert again.conversation().ask("more").id != it.id
        assert runtime.release("never opened")


def test_failing_to_open_can_be_repeated(model):
    class Flaky(MemoryStore):
        fail = True

        def head(self, key):
            if self.fail:
                raise StoreUnavailable("the network is down")
            return super().head(key)

    store = Flaky()
    with Runtime(model, store=store) as runtime:
        with pytest.raises(StoreUnavailable):
            runtime.memory("m")
        store.fail = False
        assert runtime.memory("m").version == 0


@pytest.mark.parametrize("options", [{"durability": "never"}, {"model": FakeModel(max_batch=0)}])
def test_wrong_options(options):
    with pytest.raises(ValueError):
        Runtime(options.pop("model", FakeModel()), **options)


def test_unknown_store():
    with pytest.raises(StoreUnavailable, match="gopher"):
        Runtime(FakeModel(), store="gopher://x")


# Batches


def test_batches_across_memories(model):
    with Runtime(model, policy=Budgeted()) as runtime:
        chats = [runtime.memory(f"m{i}").conversation() for i in range(20)]
        pause = model.pause("start")
        its = [chat.ask(f"hello {i}") for i, chat in enumerate(chats)]
        pause.wait_until_reached()
        pause.release()
        assert [it.result(30).text for it in its] == [f"hello {i} #0" for i in range(20)]
        stats = runtime.stats()
    assert max(size for method, size in model.batches if method == "step") == model.max_batch
    assert stats.tokens == 80 and stats.memories["m3"].version >= 0


def test_a_thread_safe_model_updates_beside_decoding():
    model = FakeModel(thread_safe=True)
    with Runtime(model) as runtime:
        other = runtime.memory("b").conversation()
        pause = model.pause("attend")
        first = runtime.memory("a").conversation().ask("one")
        pause.wait_until_reached()
        assert other.ask("two").result(30).text == "two #0"
        assert not first.is_over
        pause.release()
    model.check()


# Any RxPY scheduler


def test_under_a_test_scheduler(model):
    scheduler = TestScheduler()
    runtime = Runtime(model, lanes=Lanes.on(scheduler))
    it = runtime.memory("m").conversation().ask("hello")
    seen = Recorder(it)
    assert [e.kind for e in seen.items] == ["query_accepted"]
    scheduler.start()
    assert it.result().text == "hello #0" and seen.ended
    with pytest.raises(BackpressureDeadlock):
        runtime.memory("m").conversation().ask("hello").result()
    runtime.close()


def test_names():
    assert all(hasattr(rxstream, name) for name in rxstream.__all__)
    assert sorted(rxstream.__all__) == list(rxstream.__all__)
    code = "import rxstream, sys; print([m for m in sys.modules if m.startswith('torch')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
