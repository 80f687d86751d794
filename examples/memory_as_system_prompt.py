"""Teach a memory once, save it, and begin every user's memory with it: a system prompt."""

import reactivex as rx

from rxstream import CompletedInteraction, Runtime, snapshot
from rxstream.operators import attend, encode
from rxstream.testing import FakeModel

LESSONS = [
    CompletedInteraction(query="Who are you?", answer="The librarian of a small town."),
    CompletedInteraction(query="How do you speak?", answer="Kindly, and in one sentence."),
]

with Runtime(FakeModel()) as runtime:
    teacher = runtime.memory("librarian")
    # Interactions that never happened: only encoder and memory attention run.
    rx.from_iterable(LESSONS).pipe(encode(teacher), attend(teacher)).run()
    snapshot.write_file("librarian.stm.safetensors", teacher.snapshot())
    print("taught", teacher.version, "lessons")

with Runtime(FakeModel(), store="sqlite:///users.db") as runtime:
    for user in ("ada", "bob"):
        memory = runtime.memory(user, snapshot="librarian.stm.safetensors")
        memory.conversation().ask(f"I am {user}").result(timeout=30)
        print(f"{user}:", memory.conversation().ask("recall").result(timeout=30).text)
