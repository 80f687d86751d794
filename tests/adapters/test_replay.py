"""The interaction log gives every stored memory bit by bit: interleaved, after a kill, in a copy.

The long profile has the 1,000 interactions of the specification.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from adapters.cli import main
from adapters.model import load_model
from adapters.stores.postgres import PostgresStore
from adapters.stores.sqlite import SqliteStore
from rxstream import Runtime, history
from rxstream.model import Sampling
from rxstream.stores.copying import copy_memory
from rxtmodel.native import library

from ..profiles import budget

if TYPE_CHECKING:
    from pathlib import Path

INTERACTIONS = budget(40, 1_000)
WORDS = "my dog is called Biscuit what where lives in Oslo I like tea colour blue ü 7".split()


def query(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randrange(1, 12)))


def talk(path: str, interactions: int, seed: int) -> None:
    """Three conversations on one memory, and another memory beside it, all at once."""
    rng = random.Random(seed)
    with Runtime(load_model(), f"sqlite:///{path}", grace=120) as runtime:
        memory = runtime.memory("m", isolation="snapshot")
        chats = [memory.conversation(name, busy="parallel") for name in ("a", "b", "c")]
        chats.append(runtime.memory("other").conversation("a"))
        asked = []
        for number in range(interactions):
            sampling = Sampling(max_tokens=rng.randrange(1, 6))
            asked.append(rng.choice(chats).ask(query(rng), sampling=sampling, detach="keep"))
            if len(asked) == 6:
                for interaction in asked:
                    interaction.result(timeout=120)
                asked.clear()
                print(number, flush=True)


CHILD = """
import sys
from tests.adapters.test_replay import talk
talk(sys.argv[1], int(sys.argv[2]), 1)
"""


def test_a_replay_gives_every_stored_version_bit_by_bit(tmp_path: Path, postgres_url: str) -> None:
    path = tmp_path / "store.db"
    command = [sys.executable, "-c", CHILD, str(path), str(INTERACTIONS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) >= INTERACTIONS // 3:
                break
        os.kill(child.pid, signal.SIGKILL)
    with closing(SqliteStore(path)) as store:
        before = sum(1 for name in store.list() for _ in store.log(name))
    assert INTERACTIONS // 4 < before < INTERACTIONS
    talk(str(path), INTERACTIONS - before, 2)

    model = load_model()
    with (
        closing(SqliteStore(path)) as store,
        closing(PostgresStore(postgres_url, schema="t" + secrets.token_hex(6))) as copy,
    ):
        try:
            interactions = 0
            for name in ("m", "other"):
                copy_memory(store, copy, name)
                for kept in (store, copy):
                    steps = list(history.check(kept, model, name))
                    assert {step.outcome for step in steps} == {"same"}
                    assert kept.load(name).log_seq == kept.last_seq(name)
                interactions += sum(step.interactions for step in steps)
                value, told = history.rebuild(copy, model, name)
                assert model.dump(value) == store.load(name).state
                assert told == sum(step.interactions for step in steps)
                assert copy.load(name).digest == store.load(name).digest
            assert interactions >= INTERACTIONS - 12, "all but what nobody answered before the kill"
        finally:
            copy.erase()


def test_versions_that_another_engine_computed_are_the_same_up_to_rounding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    with monkeypatch.context() as patch:
        patch.setattr(library, "load", _no_compiler)
        by_pytorch = load_model()
    with Runtime(by_pytorch, store=url) as runtime:
        chat = runtime.memory("m").conversation()
        for said in ("my dog is called Biscuit", "my cat is called Tom"):
            chat.ask(said).result(60)
            runtime.memory("m").flush().result(60)
    with closing(SqliteStore(tmp_path / "store.db")) as store:
        steps = list(history.check(store, load_model(), "m"))
        assert [step.outcome for step in steps] == ["close", "close"]
        assert all(0 < step.distance < 1e-5 for step in steps)
        assert {step.outcome for step in history.check(store, by_pytorch, "m")} == {"same"}
        made = replace(store.load("m"), memory_id="n", version=1, log_seq=2)
        for record in store.log("m"):
            store.append("n", replace(record, seq=0, remembered=record.seq == 1))
        store.commit(made, expect=None)
        (step,) = history.check(store, load_model(), "n")
        assert step.outcome == "different" and step.distance > 0.01
    assert main(["memory", "replay", "m", "--store", url]) == 0
    assert "0 versions the same bit by bit, 2 up to rounding (by " in capsys.readouterr().out


def _no_compiler() -> None:
    raise library.NativeUnavailable("none here")
