"""asyncio: give an answer so much time. The timeout ends it, and leaves nothing behind."""

import asyncio
import gc
import inspect
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing

from rxstream import Interaction, Runtime, Token
from rxstream.testing import FakeModel


async def words(it: Interaction) -> AsyncGenerator[str, None]:
    """A generator of your own on top of a stream."""
    async for event in it:
        if isinstance(event, Token):
            yield event.text


async def main(model: FakeModel) -> None:
    async with Runtime(model) as runtime:
        memory = await runtime.amemory("user-42")
        chat = memory.conversation()
        heard, it = "", chat.ask("long 60")
        try:
            async with asyncio.timeout(0.2):
                async with it, aclosing(words(it)) as stream:
                    async for word in stream:
                        heard += word
        except TimeoutError:
            print(f"too slow, after: {heard}")
        assert it.is_over and it.answer is None
        assert memory.version == 0, "what was abandoned is not remembered"

        # The model is free for the next one at once.
        print((await chat.ask("short")).text)

    assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left behind"


model = FakeModel()
model.cost("step", 0.01)  # a model with weights takes its time
asyncio.run(main(model))

model.check()  # every decoding was released, on the thread that made it
gc.collect()
assert not any(inspect.isasyncgen(thing) for thing in gc.get_objects()), "a generator is left"
for thread in set(threading.enumerate()) - {threading.main_thread()}:
    thread.join(5)  # the loop's own helpers are told to end when it ends
assert threading.enumerate() == [threading.main_thread()], "a thread was left behind"
print("nothing is left")
