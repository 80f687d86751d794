"""Loading by name: what cannot be had is a ``ModelError`` of one line."""

from __future__ import annotations

import math
import threading

import pytest
import torch

from adapters.model import MODELS, ModelError, load_model
from rxstream import Runtime, Sampling
from rxstream.errors import GenerationError


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:9"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(ModelError, match=f"device '{device}' cannot be used: .*'cpu'") as error:
        load_model(device=device)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("device", ["xyz", "", "meta"])
def test_what_is_no_device_is_named(device: str) -> None:
    with pytest.raises(ModelError, match=f"device '{device}' cannot be used"):
        load_model(device=device)


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, "bfloat16"])
def test_a_type_that_weights_are_not_used_in_is_named(dtype) -> None:
    with pytest.raises(ModelError, match=r"dtype must be torch.float32, .*got ") as error:
        load_model(dtype=dtype)
    assert str(error.value).endswith(repr(dtype))


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelError, match="no model 'none': neither a folder nor a bundled model"):
        load_model("none")


@pytest.mark.parametrize("max_batch", [0, -1, 1.5, None])
def test_a_number_of_answers_that_cannot_be_is_named(max_batch) -> None:
    with pytest.raises(ModelError, match=f"max_batch must be .* got {max_batch}"):
        load_model(max_batch=max_batch)


def test_a_folder_may_be_a_path() -> None:
    assert load_model(MODELS / "recall").fingerprint == load_model("recall").fingerprint


def test_runtimes_that_share_a_model_are_told_when_all_its_answers_are_under_way() -> None:
    model = load_model(max_batch=1)
    endless = Sampling(logit_bias={model.tokenizer.tokens.eos: -math.inf}, max_tokens=200)
    with Runtime(model) as one, Runtime(model) as other:
        began = threading.Event()
        under_way = one.memory("a").conversation().ask("hello", sampling=endless)
        under_way.subscribe(lambda event: event.kind == "token" and began.set())
        assert began.wait(10)
        with pytest.raises(GenerationError, match="all 1 answers .* larger max_batch"):
            other.memory("b").conversation().ask("hello").result(10)
        under_way.cancel()
