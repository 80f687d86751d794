"""Ask, watch the answer come, and see that it is remembered. Runs without model weights."""

import rxstream
from rxstream import Runtime, operators
from rxstream.testing import FakeModel

with Runtime(FakeModel(), store="sqlite:///hello.db") as runtime:
    memory = runtime.memory("user-42")
    chat = memory.conversation("main")

    for query in ("My name is Ada", "recall"):
        print(">", query)
        it = chat.ask(query)  # runs already, whether or not anybody listens
        for text in rxstream.blocking(it.pipe(operators.text())):
            print(text, end="", flush=True)
        answer = it.result(timeout=30)
        print(f"\n  [{answer.usage.answer_tokens} tokens, finished by {answer.finish_reason}]")

    # What happened, from the first query to the last memory update, is one stream of events.
    it.subscribe(lambda event: print("  ", event.kind, getattr(event, "text", "")))

# The process could have been killed here just as well.

with Runtime(FakeModel(), store="sqlite:///hello.db") as runtime:
    memory = runtime.memory("user-42")
    print(f"after a restart: version {memory.version}")
    print("  ", memory.conversation().ask("recall everything").result(timeout=30).text)
