"""kill -9 while the memory is being updated: what was answered is remembered after the restart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from adapters.model import load_model
from rxstream import Runtime

QUERY = "my dog is called Biscuit"

# Answers, says so once the answer is acknowledged and the update has begun, and never ends it.
CHILD = """
import sys, threading
from adapters.model import load_model
from rxstream import Runtime

model, begun = load_model(), threading.Event()

def attend(memories, encoded):
    begun.set()
    threading.Event().wait()

model.attend = attend
runtime = Runtime(model, store=sys.argv[1])
answer = runtime.memory("dog").conversation().ask(sys.argv[2]).result(timeout=60)
begun.wait()
print(answer.text, flush=True)
threading.Event().wait()
"""


def test_an_update_that_was_killed_is_redone(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/killed.db"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, store, QUERY], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    answered = child.stdout.readline().strip()
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()

    model = load_model()
    with Runtime(model, store=store) as runtime:
        memory = runtime.memory("dog")
        redone = memory.snapshot()
        recalled = memory.conversation().ask("what is my dog called?").result(timeout=60)
    with Runtime(model, store="memory:") as runtime:
        memory = runtime.memory("dog")
        undisturbed = memory.conversation().ask(QUERY)
        assert undisturbed.result(timeout=60).text == answered
        assert list(undisturbed.blocking())[-1].kind == "memory_updated"
        expected = memory.snapshot()

    assert "Biscuit" in recalled.text
    assert redone.version == expected.version == 1
    assert redone.state == expected.state
