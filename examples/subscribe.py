"""An application that subscribes: text in one place, what the memory does in another, errors too.

Runs without model weights; ``adapters.model.load_model()`` gives the bundled model.
"""

import rxstream
from rxstream import MemoryUpdated, Runtime, Timeouts, operators
from rxstream.testing import FakeModel


class Screen:
    """Stands for the widgets of your application."""

    def __init__(self) -> None:
        self.answer, self.status = "", "ready"

    def show_text(self, text: str) -> None:
        self.answer += text
        print(text, end="", flush=True)

    def show_status(self, event: rxstream.Event) -> None:
        match event:
            case rxstream.QueryAccepted():
                self.status = "thinking..."
            case rxstream.MemoryUpdating():
                self.status = "remembering..."
            case MemoryUpdated(version=version):
                self.status = f"remembered, version {version}"
            case rxstream.Failed() | rxstream.MemoryFailed():
                self.status = f"failed: {event.error.message}"

    def show_error(self, error: Exception) -> None:
        print(f"[{error}]", end="")


def ask(chat: rxstream.Conversation, query: str, screen: Screen) -> None:
    print("\n>", query)
    it = chat.ask(query, timeouts=Timeouts(answer=60), detach="keep")
    # Callbacks run on the runtime's threads, one after another; tokens within 20 ms come as one.
    it.pipe(operators.coalesce(20), operators.text()).subscribe(screen.show_text, screen.show_error)
    try:
        it.result(timeout=90)
    except rxstream.errors.InteractionError:
        pass  # the screen has shown it; the conversation goes on


def open_chat(runtime: Runtime[tuple[str, ...]], screen: Screen) -> rxstream.Conversation:
    memory = runtime.memory("user-42")
    memory.events.subscribe(screen.show_status)
    return memory.conversation("main")


model, screen = FakeModel(), Screen()
model.fail("step", RuntimeError("out of memory"), containing="impossible")

with Runtime(model, store="sqlite:///app.db") as runtime:
    chat = open_chat(runtime, screen)
    for query in ("My name is Ada", "something impossible", "recall"):
        ask(chat, query, screen)
    chat.memory.flush().result(timeout=30)

assert "My name is Ada -> My name is Ada #0" in screen.answer
print("\nstatus:", screen.status)

# The process could have been killed here just as well: what was answered is on record.

with Runtime(model, store="sqlite:///app.db") as runtime:
    chat = open_chat(runtime, screen)
    print("after a restart: version", chat.memory.version)
    ask(chat, "recall", screen)
    print()
