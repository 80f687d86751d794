"""trio: a user presses Esc in the middle of an answer. The scope ends it, nothing is left."""

import gc
import inspect
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing

import trio

from rxstream import Conversation, Interaction, Runtime, Token
from rxstream.testing import FakeModel


async def words(it: Interaction) -> AsyncGenerator[str, None]:
    """A generator of your own on top of a stream."""
    async for event in it:
        if isinstance(event, Token):
            yield event.text


async def show(chat: Conversation, asked: list[Interaction], esc: trio.Event) -> None:
    async with chat.ask("long 60") as it, aclosing(words(it)) as stream:
        asked.append(it)
        async for word in stream:
            print(word, end="", flush=True)
            if word.startswith("w2"):
                esc.set()  # the user has seen enough


async def main(model: FakeModel) -> None:
    async with Runtime(model) as runtime:
        memory = await runtime.amemory("user-42")
        chat = memory.conversation()
        asked: list[Interaction] = []
        esc = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(show, chat, asked, esc)
            await esc.wait()
            nursery.cancel_scope.cancel()
        print("- cancelled")
        [it] = asked
        assert it.is_over and it.answer is None
        assert memory.version == 0, "what was abandoned is not remembered"

        # The model is free for the next one at once.
        with trio.fail_after(10):
            print((await chat.ask("short")).text)
        assert not trio.lowlevel.current_task().child_nurseries, "a task was left behind"
    # Beside this task there are the two that trio itself runs.
    tasks = trio.lowlevel.current_statistics().tasks_living
    assert tasks == 1 + 2, f"{tasks} tasks are alive"


model = FakeModel()
model.cost("step", 0.01)  # a model with weights takes its time
trio.run(main, model)

model.check()  # every decoding was released, on the thread that made it
gc.collect()
assert not any(inspect.isasyncgen(thing) for thing in gc.get_objects()), "a generator is left"
left = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
assert all(name.startswith("Trio thread") for name in left), left  # trio keeps idle ones a while
print("nothing is left")
