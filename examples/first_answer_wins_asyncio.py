"""asyncio: ask several at once, take the first answer, cancel the others in the middle."""

import asyncio
import gc
import inspect
import threading

from rxstream import Conversation, Interaction, Runtime
from rxstream.testing import FakeModel


async def answer(chat: Conversation, query: str, asked: list[Interaction]) -> str:
    # Leaving the block, by cancellation as well, cancels what is not complete.
    async with chat.ask(query) as it:
        asked.append(it)
        return (await it).text


async def main(model: FakeModel) -> None:
    async with Runtime(model) as runtime:
        memory = await runtime.amemory("user-42")
        await memory.conversation().ask("the sky is green")
        asked: list[Interaction] = []
        async with asyncio.TaskGroup() as group:
            tasks = []
            for query in ("long 60", "recall", "long 50"):
                # Each on a fork, so that they run beside each other; forking waits for the store.
                fork = await asyncio.to_thread(memory.fork, f"draft: {query}")
                tasks.append(group.create_task(answer(fork.conversation(), query, asked)))
            done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in others:
                task.cancel()
        [first] = done
        print("the first:", first.result())
        assert first.result() == "the sky is green -> the sky is green #0"
        assert [it.answer is None for it in asked] == [True, False, True]
        assert all(it.is_over for it in asked if it.answer is None)

    assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left behind"


model = FakeModel()
model.cost("step", 0.03)  # a model with weights takes its time
asyncio.run(main(model))

model.check()  # every decoding was released, on the thread that made it
gc.collect()
assert not any(inspect.isasyncgen(thing) for thing in gc.get_objects()), "a generator is left"
for thread in set(threading.enumerate()) - {threading.main_thread()}:
    thread.join(5)  # the loop's own helpers are told to end when it ends
assert threading.enumerate() == [threading.main_thread()], "a thread was left behind"
print("nothing is left")
