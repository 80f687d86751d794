"""A memory that the client holds goes on from request to request, and the server keeps nothing."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from adapters.stores.held import ClientHeld
from adapters.stores.keyring import Keyring
from adapters.stores.sealing import Sealer
from adapters.stores.sqlite import SqliteStore
from rxstream import Runtime
from rxstream.errors import (
    ClosedError,
    MemoryUpdateError,
    SnapshotIncompatible,
    SnapshotStale,
    Undecryptable,
)
from rxstream.stores.memory import MemoryStore
from rxstream.stores.transient import TransientStore
from rxstream.testing import FakeModel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEALER = Sealer(Keyring({"k": bytes(range(32))}, "k"))
Held = ClientHeld[tuple[str, ...]]


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def held(model: FakeModel, tmp_path: Path) -> Iterator[Held]:
    with closing(TransientStore(SqliteStore(tmp_path / "store.db"))) as store:
        with Runtime(model, store) as runtime:
            yield ClientHeld(runtime, SEALER)


def ask(held: Held, sealed: bytes | None, query: str, tenant: str = "acme") -> tuple[str, bytes]:
    with held.visit(sealed, tenant=tenant) as visit:
        answer = visit.memory.conversation().ask(query).result(timeout=30)
    assert visit.sealed is not None
    return answer.text, visit.sealed


def test_each_request_remembers_what_was_said_before(held: Held) -> None:
    _, sealed = ask(held, None, "my dog is called Biscuit")
    _, sealed = ask(held, sealed, "and my cat Tofu")
    answer, _ = ask(held, sealed, "recall")
    assert "Biscuit" in answer and "Tofu" in answer


def test_the_server_has_nothing_of_it_during_and_after_the_visit(
    held: Held, tmp_path: Path
) -> None:
    with held.visit(tenant="acme") as visit:
        it = visit.memory.conversation().ask("my dog is called Biscuit")
        list(it.blocking())
        visit.memory.flush().result(30)
    runtime = held.runtime
    list(runtime.memory("kept").conversation().ask("my dog is called Rex").blocking())
    runtime.memory("kept").flush().result(30)
    assert runtime.store.list() == ["kept"]
    on_disk = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert b"Rex" in on_disk
    assert b"Biscuit" not in on_disk
    assert runtime.stats().memories.keys() == {"kept"}


def test_versions_and_identity_go_on_over_visits(held: Held) -> None:
    with held.visit(tenant="acme") as first:
        chat = first.memory.conversation()
        for query in ("one", "two"):
            chat.ask(query).result(timeout=30)
    with held.visit(first.sealed, tenant="acme", at_least=2) as second:
        second.memory.conversation().ask("three").result(timeout=30)
    assert (first.version, second.version, first.id) == (2, 3, second.id)
    with pytest.raises(SnapshotStale), held.visit(first.sealed, tenant="acme", at_least=3):
        pass


def test_two_visits_of_the_same_memory_at_once_are_apart(held: Held) -> None:
    _, sealed = ask(held, None, "common")
    with held.visit(sealed, tenant="acme") as a, held.visit(sealed, tenant="acme") as b:
        list(a.memory.conversation().ask("only a").blocking())
        list(b.memory.conversation().ask("only b").blocking())
    told, _ = ask(held, a.sealed, "recall")
    assert "common" in told and "only a" in told and "only b" not in told


def test_nothing_said_gives_back_what_came(held: Held) -> None:
    with held.visit(tenant="acme") as visit:
        pass
    assert visit.sealed is None
    _, sealed = ask(held, None, "one")
    with held.visit(sealed, tenant="acme") as visit:
        pass
    assert visit.version == 1
    assert "one" in ask(held, visit.sealed, "recall")[0]


def test_a_visit_that_fails_leaves_the_memory_as_it_came(held: Held) -> None:
    _, sealed = ask(held, None, "one")
    with pytest.raises(KeyError), held.visit(sealed, tenant="acme") as visit:
        list(visit.memory.conversation().ask("two").blocking())
        raise KeyError
    assert visit.sealed == sealed
    assert held.runtime.store.list() == []
    assert held.runtime.stats().memories == {}


def test_a_new_memory_begins_with_a_prompt(held: Held) -> None:
    with held.runtime as runtime:
        teacher = runtime.memory("teacher")
        list(teacher.conversation().ask("you are a librarian").blocking())
        with held.visit(tenant="acme", snapshot=teacher.snapshot()) as visit:
            pass
        assert visit.version == 0
        assert "librarian" in ask(held, visit.sealed, "recall")[0]


def test_another_tenant_and_another_model_are_refused_and_leave_nothing(held: Held) -> None:
    _, sealed = ask(held, None, "one")
    with pytest.raises(Undecryptable), held.visit(sealed, tenant="mallory"):
        pass
    store = TransientStore(MemoryStore())
    with Runtime(FakeModel(fingerprint="another"), store) as runtime:
        with pytest.raises(SnapshotIncompatible):
            ClientHeld(runtime, SEALER).visit(sealed, tenant="acme").__enter__()
        assert store.held._memories == {}


def test_an_update_that_takes_too_long_is_an_error_and_no_half_memory(
    model: FakeModel, held: Held
) -> None:
    hasty = ClientHeld(held.runtime, SEALER, grace=0.05)
    window = model.pause("attend")
    with pytest.raises(MemoryUpdateError, match="did not end within"):
        with hasty.visit(tenant="acme") as visit:
            visit.memory.conversation().ask("one").result(timeout=30)
    window.release()
    assert visit.sealed is None
    ask(held, None, "the lanes have come to an end with the first")
    assert held.runtime.store.held._memories == {}  # type: ignore[attr-defined]


def test_a_runtime_that_would_store_it_is_refused() -> None:
    with Runtime(FakeModel()) as runtime, pytest.raises(ValueError, match="TransientStore"):
        ClientHeld(runtime, SEALER)


def test_a_closed_runtime_is_an_error_and_leaves_nothing(held: Held) -> None:
    held.runtime.close()
    with pytest.raises(ClosedError), held.visit(tenant="acme"):
        pass


@pytest.mark.anyio
async def test_visits_work_on_an_event_loop(held: Held) -> None:
    async with held.visit(tenant="acme") as visit:
        await visit.memory.conversation().ask("my dog is called Biscuit")
    async with held.visit(visit.sealed, tenant="acme") as visit:
        answer = await visit.memory.conversation().ask("recall")
    assert "Biscuit" in answer.text
