"""Loading by name: what cannot be had is a ``ModelError`` of one line."""

from __future__ import annotations

import pytest
import torch

from adapters.model import ModelError, load_model


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
