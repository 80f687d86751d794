"""What a model is given: what fits is taken, what does not is refused by its name and number."""

from __future__ import annotations

import pytest
import torch

from rxtmodel import AttentionConfig, Critic, LmConfig, SqaLM

from .tiny import LAYERS, SLOTS, VARIANTS, WIDTH, random_ids, random_memory, tiny_config, tiny_model

LONGEST = tiny_config().max_seq_len
every_variant = pytest.mark.parametrize("variant", VARIANTS)
every_backend = pytest.mark.parametrize("backend", ["eager", "sdpa"])


def frozen(variant: str = "interlayer", **settings):
    return tiny_model(variant, **settings).requires_grad_(False)


def language_model(**settings) -> SqaLM:
    heads = AttentionConfig(num_query_heads=2, num_kv_heads=1)
    config = LmConfig(vocab_size=24, embed_dim=8, num_layers=1, head_dim=4, attention=heads,
                      ff_dim=8, max_seq_len=LONGEST, **settings)  # fmt: skip
    return SqaLM(config).eval().requires_grad_(False)


@every_backend
@every_variant
@pytest.mark.parametrize(("rows", "memories"), [(2, 3), (1, 2), (3, 2), (2, 0)])
def test_memories_that_cannot_be_shared_out_are_refused(variant, backend, rows, memories):
    model = frozen(variant)
    model.use_backend(backend)
    memory, ids = random_memory(model, memories), random_ids(rows, 5)
    for form in (memory, model.project_memory(memory)):
        with pytest.raises(ValueError, match=f"{rows} rows cannot read {memories} memories"):
            model(ids, form)


@every_variant
def test_a_batch_of_nobody_is_a_batch(variant):
    model = frozen(variant)
    assert model(random_ids(0, 5), random_memory(model, 0)).shape == (0, 5, 24)


@every_variant
@pytest.mark.parametrize(
    "shape",
    [
        (LAYERS, 1, SLOTS + 1, WIDTH),
        (LAYERS, 1, SLOTS - 1, WIDTH),
        (LAYERS + 1, 1, SLOTS, WIDTH),
        (LAYERS, 1, SLOTS, WIDTH // 2),
        (LAYERS, SLOTS, WIDTH),
    ],
    ids=str,
)
def test_a_memory_of_another_shape_is_refused(variant, shape):
    model, ids = frozen(variant), random_ids(1, 5)
    said = rf"memory must have shape \[4, \d, 3, 8\], got \[{', '.join(map(str, shape))}\]"
    with pytest.raises(ValueError, match=said):
        model(ids, torch.zeros(shape))
    with pytest.raises(ValueError, match=said):
        model.attend(torch.zeros(shape), model.encode(ids))


def test_what_another_model_encoded_is_refused():
    model = frozen()
    with pytest.raises(ValueError, match=r"encoded must have shape \[4, 2, 6, 8\], got \[5, 2, "):
        model.attend(random_memory(model, 2), torch.zeros(LAYERS + 1, 2, 6, WIDTH))


@every_variant
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_a_mask_of_a_tokenizer_is_taken_as_truth(variant, dtype):
    model, ids = frozen(variant), random_ids(2, 6)
    mask = torch.arange(6) < torch.tensor([[6], [4]])
    memory, given = random_memory(model, 2), mask.to(dtype)
    assert torch.equal(model.encode(ids, given), model.encode(ids, mask))
    encoded = model.encode(ids, mask)
    assert torch.equal(model.attend(memory, encoded, given), model.attend(memory, encoded, mask))
    critic = Critic(model.config).requires_grad_(False)
    assert torch.equal(critic(ids, given), critic(ids, mask))


@every_backend
@every_variant
def test_a_floating_mask_is_refused(variant, backend):
    model, ids, mask = frozen(variant), random_ids(2, 6), torch.ones(2, 6)
    model.use_backend(backend)
    critic = Critic(model.config)
    memory, encoded = random_memory(model, 2), model.encode(ids)
    for call in (
        lambda: model.encode(ids, mask),
        lambda: model.attend(memory, encoded, mask),
        lambda: critic(ids, mask),
        lambda: critic.value(encoded[-1], mask),
    ):
        with pytest.raises(TypeError, match=r"got torch.float32; use mask.bool\(\)"):
            call()


@pytest.mark.parametrize("shape", [(1, 6), (2, 1), (2, 5), (6,)], ids=str)
def test_a_mask_of_another_shape_is_refused(shape):
    model, ids, mask = frozen(), random_ids(2, 6), torch.ones(shape, dtype=torch.bool)
    for call in (
        lambda: model.encode(ids, mask),
        lambda: model.attend(random_memory(model, 2), model.encode(ids), mask),
        lambda: Critic(model.config)(ids, mask),
    ):
        with pytest.raises(ValueError, match=r"mask must have shape \[2, 6\], got"):
            call()


@every_variant
def test_an_interaction_without_tokens_is_the_same_on_every_backend(variant):
    """Nothing is attended to: what the rows beside it are is as without it."""
    model, ids = frozen(variant), random_ids(2, 6)
    mask = torch.tensor([[True] * 6, [False] * 6])
    memory, found = random_memory(model, 2), []
    for backend in ("eager", "sdpa"):
        model.use_backend(backend)
        encoded = model.encode(ids, mask)
        found.append((encoded, model.attend(memory, encoded, mask)))
        alone = model.attend(memory[:, :1], model.encode(ids[:1]))
        torch.testing.assert_close(found[-1][1][:, :1], alone)
    assert all(part.isfinite().all() for part in found[0])
    torch.testing.assert_close(found[0], found[1])


def test_a_delta_memory_keeps_what_it_has_where_nothing_was_said():
    model, ids = frozen("delta"), random_ids(2, 6)
    mask, memory = torch.zeros(2, 6, dtype=torch.bool), random_memory(model, 2)
    torch.testing.assert_close(model.attend(memory, model.encode(ids, mask), mask), memory)


@pytest.mark.parametrize("nope", [False, True])
@pytest.mark.parametrize("longest", [1, 16])
def test_a_sequence_is_as_long_as_max_seq_len_at_most(nope, longest):
    model = frozen(max_seq_len=longest, nope=nope)
    memory, fits, more = (
        random_memory(model, 1), random_ids(1, longest), random_ids(1, longest + 1)
    )  # fmt: skip
    assert model.attend(memory, model.encode(fits)).isfinite().all()
    assert model(fits, memory).isfinite().all()
    for call in (
        lambda: model(more, memory),
        lambda: model.encode(more),
        lambda: model.attend(memory, torch.zeros(LAYERS, 1, longest + 1, WIDTH)),
        lambda: Critic(model.config)(more),
    ):
        with pytest.raises(ValueError, match=f"{longest + 1} tokens .* max_seq_len={longest};"):
            call()


@pytest.mark.parametrize("nope", [False, True])
def test_so_is_a_sequence_of_a_language_model(nope):
    with pytest.raises(ValueError, match=f"{LONGEST + 1} tokens .* max_seq_len={LONGEST};"):
        language_model(nope=nope)(random_ids(1, LONGEST + 1))


@every_variant
def test_a_sequence_of_no_token_is_refused(variant):
    model, nothing = frozen(variant), random_ids(2, 0)
    for call in (
        lambda: model(nothing, random_memory(model, 2)),
        lambda: model.encode(nothing),
        lambda: model.attend(random_memory(model, 2), torch.zeros(LAYERS, 2, 0, WIDTH)),
        lambda: language_model()(nothing),
    ):
        with pytest.raises(ValueError, match="at least one token"):
            call()


def test_ids_that_are_no_batch_are_refused():
    with pytest.raises(ValueError, match=r"ids are \[B, T\], got \[5\]"):
        frozen()(random_ids(5), None)


@pytest.mark.parametrize(("wrong", "said"), [(24, "ids from 11 to 24"), (-1, "ids from -1 to 11")])
def test_an_id_outside_the_vocabulary_is_named(wrong, said):
    model, ids = frozen(), torch.tensor([[11, wrong]])
    for call in (
        lambda: model(ids, None),
        lambda: model.encode(ids),
        lambda: Critic(model.config)(ids),
        lambda: language_model()(ids),
    ):
        with pytest.raises(IndexError, match=f"{said} .* vocabulary, which has 0 to 23"):
            call()


@pytest.mark.parametrize("variant", ["interlayer", "delta"])
def test_checks_do_not_keep_a_model_from_being_compiled(variant):
    model, ids = frozen(variant, num_layers=2), random_ids(4, 5)
    memory, mask = random_memory(model, 2), torch.ones(4, 5, dtype=torch.int64)
    for function, given in ((model.forward, (ids, memory)), (model.encode, (ids, mask))):
        compiled = torch.compile(function, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(*given), function(*given))


@pytest.mark.parametrize("variant", ["interlayer", "delta"])
def test_checks_look_at_no_value(variant):
    """Tensors on "meta" have none."""
    model, ids = frozen(variant).to("meta"), random_ids(4, 5).to("meta")
    mask = torch.ones(4, 5, dtype=torch.int64, device="meta")
    assert model(ids, model.initial_memory(2)).shape == (4, 5, 24)
    assert model.encode(ids, mask).shape == (LAYERS, 4, 5, WIDTH)


def test_masks_have_a_name():
    model, ids = frozen(), random_ids(2, 5)
    mask = torch.ones(2, 5, dtype=torch.bool)
    encoded = model.encode(ids, mask=mask)
    assert torch.equal(encoded, model.encode(ids))
    memory = model.initial_memory(2)
    assert torch.equal(model.attend(memory, encoded, mask=mask), model.attend(memory, encoded))
