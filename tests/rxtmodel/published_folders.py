"""Folders of published files, and changes to them."""

from __future__ import annotations

import json

import torch
from safetensors.torch import load_file, save_file

from rxtmodel import ReactiveTransformer, RxtConfig
from rxtmodel.files import CONFIG_FILE, WEIGHTS_FILE

load = ReactiveTransformer.from_pretrained


def write(model: ReactiveTransformer, folder) -> None:
    model.save_pretrained(folder, format="published")


def config_of(folder) -> dict:
    return json.loads((folder / CONFIG_FILE).read_text())


def rewrite(folder, *, config=None, weights=None):
    """Change the files of a folder in place; returns the folder."""
    data, tensors = config_of(folder), load_file(folder / WEIGHTS_FILE)
    if config is not None:
        config(data)
    if weights is not None:
        tensors = weights(tensors) or tensors
    (folder / CONFIG_FILE).write_text(json.dumps(data))
    save_file({n: t.contiguous().clone() for n, t in tensors.items()}, folder / WEIGHTS_FILE)
    return folder


def without(*names):
    """A change of weights: these are gone."""
    return lambda weights: {n: w for n, w in weights.items() if n not in names}


def assert_same(found: ReactiveTransformer, expected: ReactiveTransformer) -> None:
    """Every weight to the last bit, and the same answers and memories from them."""
    state = expected.state_dict()
    assert found.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in found.state_dict().items())
    ids, stm = torch.randint(11, 24, (2, 5)), torch.randn(4, 2, 3, 16)
    assert torch.equal(found(ids, stm), expected(ids, stm))
    new = found.attend(stm, found.encode(ids))
    assert torch.equal(new, expected.attend(stm, expected.encode(ids)))


def components(whole, folder) -> dict:
    """A folder for each component of a whole model, without what only the whole says."""
    weights, config, folders = load_file(whole / WEIGHTS_FILE), config_of(whole), {}
    for part in ("decoder", "encoder", "memory_attention"):
        folders[part] = own = folder / part
        own.mkdir()
        tensors = {n.removeprefix(f"{part}."): t for n, t in weights.items() if n.startswith(part)}
        save_file(tensors, own / WEIGHTS_FILE)
        (own / CONFIG_FILE).write_text(json.dumps(config[f"{part}_config"]))
    return folders


def unsaid(*names):
    """A change of configs: the decoder's says nothing of these."""
    return lambda config: [config["decoder_config"].pop(name) for name in names]


def apart(config: RxtConfig):
    """A change of weights: experts of ``config`` have keys of their own, as in old files."""

    def change(weights):
        out, many = {}, config.experts.num_shared > 1
        for key, value in weights.items():
            place, _, leaf = key.rpartition(".")
            shared = leaf.startswith("shared_")
            if leaf in ("w1", "w2", "b1", "b2") or (shared and many and leaf[7:] in "w1 w2 b1 b2"):
                which = leaf[-1]
                gated = ".linear" if config.gated and which == "1" else ""
                kind = "shared_experts" if shared else "experts"
                for e, part in enumerate(value):
                    suffix = "weight" if "w" in leaf[-2:] else "bias"
                    part = part.T if suffix == "weight" else part
                    out[f"{place}.{kind}.{e}.fc{which}{gated}.{suffix}"] = part
            elif ".shared_expert." in key:
                out[key.replace(".shared_expert.", ".shared_experts.0.")] = value
            else:
                out[key] = value
        return out

    return change
