"""Several runtimes may share a model: one call of a kind at a time, whoever makes it."""

from __future__ import annotations

import os
import threading

import pytest

from adapters.model import load_model
from adapters.model_locks import ModelLocks
from rxstream import Runtime, Sampling

FACTS = ("my dog is called Biscuit", "my cat is called Olive", "my horse is called Comet")


def test_runtimes_that_share_a_model_answer_as_each_alone() -> None:
    """At once, with answers that join and leave each other's steps."""
    model = load_model(max_batch=16)

    def converse(name: str, fact: str, said: list[str]) -> None:
        with Runtime(model) as runtime:
            chat = runtime.memory(name).conversation()
            queries = (fact, "hello there", f"what is my {fact.split()[1]} called?") * 3
            said.extend(
                chat.ask(query, sampling=Sampling(seed=0)).result(timeout=60).text
                for query in queries
            )

    alone: list[list[str]] = [[] for _ in FACTS]
    for n, fact in enumerate(FACTS):
        converse(f"m{n}", fact, alone[n])
    together: list[list[str]] = [[] for _ in FACTS]
    threads = [
        threading.Thread(target=converse, args=(f"m{n}", fact, together[n]))
        for n, fact in enumerate(FACTS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone
    assert "Biscuit" in alone[0][2]


def test_updates_beside_decoding_have_a_lock_of_their_own() -> None:
    together, apart = ModelLocks(apart=False), ModelLocks(apart=True)
    assert together.updating is together.decoding
    assert apart.updating is not apart.decoding


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_waits_for_no_thread_of_its_parent() -> None:
    locks = ModelLocks(apart=True)
    with locks.decoding, locks.updating:
        child = os.fork()
        if not child:
            free = locks.decoding.acquire(timeout=5) and locks.updating.acquire(timeout=5)
            os._exit(0 if free else 1)
        assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("apart", [True, False])
def test_nobody_calls_a_model_that_is_being_prepared(apart: bool) -> None:
    locks = ModelLocks(apart=apart)
    with locks.all():
        assert locks.decoding.locked() and locks.updating.locked()
    assert not locks.decoding.locked() and not locks.updating.locked()


def test_an_engine_is_prepared_under_the_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, held = load_model(max_batch=2), []
    locks = model._locks
    monkeypatch.setattr(
        model._engine,
        "warm_up",
        lambda: held.append((locks.decoding.locked(), locks.updating.locked())),
    )
    model.warm_up()
    assert held == [(True, True)]
    assert not locks.decoding.locked()
