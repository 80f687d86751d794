"""An agent on an event loop: react to tokens, give up in time, keep what was good enough.

The same program runs on asyncio and on trio.
"""

import anyio
import anyio.lowlevel

from rxstream import AnswerCompleted, Runtime, Timeouts, Token
from rxstream.errors import InteractionCancelled
from rxstream.testing import FakeModel


async def observe(memory):
    """Somebody else on the same loop may watch; a slow reader disturbs nobody."""
    async for event in memory.events:
        if event.kind in ("memory_updated", "cancelled", "memory_failed"):
            print(f"   [{event.kind} in {event.conversation}]")


async def main() -> None:
    async with Runtime(FakeModel()) as runtime:
        memory = await runtime.amemory("agent")
        chat = memory.conversation("agent", busy="switch")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(observe, memory)
            await anyio.lowlevel.checkpoint()

            # Token by token, with back-pressure: the model waits for this loop.
            async with chat.ask("What is the plan?") as it:
                async for event in it.iter(overflow="block"):
                    match event:
                        case Token(text=text):
                            print(text, end="")
                        case AnswerCompleted(finish_reason=reason):
                            print(f"   [{reason}]")

            # Leaving the block early cancels: memory stays as it was.
            async with chat.ask("long 60") as it:
                async for event in it.iter(overflow="block"):
                    if isinstance(event, Token) and event.index == 3:
                        break
            try:
                await it
                print("it was quicker than we")
            except InteractionCancelled:
                print("abandoned after a few tokens")

            # The last query wins: with busy="switch" a newer one cancels the older.
            first, second = chat.ask("draft one"), chat.ask("draft two")
            print("the first is over:", first.is_over, "- the second says:", (await second).text)

            # Content with a partial answer: memory remembers it.
            limits = Timeouts(answer=5.0, on_timeout="stop")
            answer = await chat.ask("long 20", timeouts=limits)
            print(f"{len(answer.token_ids)} tokens, finished by {answer.finish_reason}")

            await memory.flush()
            tasks.cancel_scope.cancel()


for backend in ("asyncio", "trio"):
    print(f"--- {backend}")
    anyio.run(main, backend=backend)
