"""An agent on an event loop: it uses a tool when the model asks for one, and gives up in time.

The same program runs on asyncio and on trio. The model here has no weights and follows a script.
"""

import re

import anyio

from rxstream import Conversation, Interaction, Runtime, ShortTermMemory, Timeouts, Token
from rxstream.errors import InteractionCancelled
from rxstream.testing import FakeModel

CALL = re.compile(r"<weather (\w+)>")
LIMITS = Timeouts(first_token=20, answer=60, on_timeout="stop")


def script(query: str, memory: tuple[str, ...]) -> list[str]:
    if query.startswith("result: "):
        return ["Take ", "an ", "umbrella: ", query.removeprefix("result: ")]
    if "weather" in query:
        return ["Let ", "me ", "look. ", "<weather ", "Oslo>", " And ", "then ", "I ", "guess"]
    return ["Hm. "] * 40


async def weather(city: str) -> str:
    await anyio.sleep(0.01)  # a request to somewhere
    return f"rain in {city}"


async def watch(it: Interaction) -> str | None:
    """Print the answer as it comes; stop it as soon as it asks for the tool."""
    text = ""
    async for event in it:
        if isinstance(event, Token):
            text += event.text
            print(event.text, end="", flush=True)
            if found := CALL.search(text):
                it.stop()  # what was said so far is remembered
                return found[1]
    print()
    return None


async def run(chat: Conversation, query: str) -> str:
    """Ask, use tools as often as the model wants, give the last answer."""
    while True:
        it = chat.ask(query, timeouts=LIMITS)
        city = await watch(it)
        answer = await it
        if city is None:
            return answer.text
        print("  [the tool is called]")
        query = f"result: {await weather(city)}"


async def observe(memory: ShortTermMemory[tuple[str, ...]]) -> None:
    """Somebody else on the same loop may watch; a slow reader disturbs nobody."""
    async for info in memory.changes:
        print(f"  [version {info.version}]")


async def main() -> None:
    model = FakeModel(answer=script)
    model.cost("step", 0.005)  # a model with weights takes its time
    async with Runtime(model) as runtime:
        memory = await runtime.amemory("agent")
        chat = memory.conversation("agent", busy="switch")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(observe, memory)

            answer = await run(chat, "What is the weather in Oslo?")
            assert answer == "Take an umbrella: rain in Oslo"

            # A newer query wins: with busy="switch" it cancels the one before.
            draft, final = chat.ask("think long"), chat.ask("think again")
            try:
                await draft
            except InteractionCancelled:
                print("the draft was given up")
            assert (await final).finish_reason == "eos"

            # Time is up for the whole task: the scope ends the answer, memory stays as it was.
            long = chat.ask("think very long")
            with anyio.move_on_after(0.05):
                async with long:
                    await watch(long)
            assert long.is_over
            print("given up in time")

            await memory.flush()
            tasks.cancel_scope.cancel()


for backend in ("asyncio", "trio"):
    print(f"--- {backend}")
    anyio.run(main, backend=backend)
