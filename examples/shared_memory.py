"""Several conversations on one memory, and one that does not share."""

from rxstream import Runtime
from rxstream.testing import FakeModel

with Runtime(FakeModel()) as runtime:
    memory = runtime.memory("household")
    ada = memory.conversation("ada", label="Ada: ")
    bob = memory.conversation("bob", label="Bob: ")
    guest = memory.conversation("guest", read_only=True)

    memory.changes.subscribe(lambda info: print(f"   [version {info.version}]"))

    # They run one after another, in turn, and each reads what the others have left in memory.
    asked = [ada.ask("the cat is fed"), bob.ask("the dog is not"), ada.ask("recall")]
    for it in asked:
        print(it.query, "->", it.result(timeout=30).text)

    # A guest may read, and leaves no trace.
    print("guest sees:", guest.ask("recall").result(timeout=30).text)

    # A fork begins with what is known now. Neither sees the other's future.
    private = memory.fork("ada's notes")
    private.conversation().ask("nobody knows this").result(timeout=30)
    print("shared:", len(memory.value), "interactions; private:", len(private.value) - 3, "more")
