"""Teach a memory once, save it, and begin every user's memory with it: a system prompt."""

import reactivex as rx

from rxstream import CompletedInteraction, Runtime, snapshot
from rxstream.errors import SnapshotIncompatible
from rxstream.operators import attend, encode, memory_updates
from rxstream.testing import FakeModel

PROMPT = "librarian.stm.safetensors"
LESSONS = [
    CompletedInteraction(query="Who are you?", answer="The librarian of a small town."),
    CompletedInteraction(query="How do you speak?", answer="Kindly, and in one sentence."),
]

# Once, by whoever writes the prompt. These interactions never happened: nothing is generated,
# only encoder and memory attention run.
with Runtime(FakeModel()) as runtime:
    teacher = runtime.memory("librarian")
    lessons = rx.from_iterable(LESSONS).pipe(encode(teacher), attend(teacher), memory_updates())
    print("taught, version", lessons.run().version)
    snapshot.write_file(PROMPT, teacher.snapshot())

# For every user, at every start: a memory that the store knows already goes on where it was.
for start in ("first", "second"):
    with Runtime(FakeModel(), store="sqlite:///users.db") as runtime:
        for user in ("ada", "bob"):
            chat = runtime.memory(user, snapshot=PROMPT).conversation()
            chat.ask(f"I am {user}, for the {start} time").result(timeout=30)
            known = chat.ask("recall").result(timeout=30).text
            print(f"{user}: {known}")
            assert "The librarian" in known and f"I am {user}, for the first time" in known
            assert user == "bob" or "bob" not in known

# A memory is readable by the model that made it, and by no other.
with Runtime(FakeModel(fingerprint="another model")) as runtime:
    try:
        runtime.memory("carol", snapshot=PROMPT)
    except SnapshotIncompatible as refusal:
        print("refused:", refusal)
