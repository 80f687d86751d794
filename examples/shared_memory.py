"""A household on one memory: conversations told apart by labels, a guest, a private fork."""

from rxstream import Conversation, Runtime
from rxstream.testing import FakeModel


def say(chat: Conversation, query: str) -> str:
    text = chat.ask(query).result(timeout=30).text
    print(f"{chat.name}: {query} -> {text}")
    return text


with Runtime(FakeModel(), store="sqlite:///household.db") as runtime:
    memory = runtime.memory("household")
    # The label goes before each query, so that the memory knows who said it.
    ada = memory.conversation("ada", label="Ada: ")
    bob = memory.conversation("bob", label="Bob: ")
    # A guest may read, and leaves no trace.
    guest = memory.conversation("guest", read_only=True)

    # Asked at once: they take turns, and each reads what the one before has left in memory.
    asked = [ada.ask("the cat is fed"), bob.ask("the dog is not"), ada.ask("thanks")]
    for it in asked:
        it.result(timeout=30)

    say(guest, "who lives here?")
    heard = say(guest, "recall")
    assert "Ada: the cat is fed" in heard and "Bob: the dog is not" in heard

    # A fork begins with what is known now. Neither sees the other's future.
    notes = memory.fork("ada's notes").conversation("ada")
    say(notes, "nobody knows this")
    assert "the cat is fed" in say(notes, "recall")
    assert "nobody knows this" not in say(bob, "recall")
    assert "who lives here?" not in say(ada, "recall")
