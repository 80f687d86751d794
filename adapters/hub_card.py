"""The card of a snapshot on the Hub: what it is, how to load it, what to mind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from huggingface_hub import ModelCardData

from rxstream import tensorfile

if TYPE_CHECKING:
    from rxstream.snapshot import Snapshot

    from .hub import About, Address

MARK = (
    "<!-- written by rxstream at every publication; remove this line to keep a card of your own -->"
)
TAGS = ["rxstream-stm", "reactive-transformer"]


def write_card(snapshot: Snapshot, place: Address, about: About) -> str:
    """Markdown with the metadata that the Hub reads."""
    data = ModelCardData(
        library_name="rxstream",
        tags=TAGS,
        license=about.license,
        base_model=about.base_model or snapshot.metadata.get("model.id"),
    )
    rows = "\n".join(f"| {name} | `{_cell(value)}` |" for name, value in _facts(snapshot).items())
    return f"""\
---
{data.to_yaml()}
---
{MARK}

# {place.repo.split("/")[1]}

A short-term memory of a Reactive Transformer: what the model remembers, as one file. A conversation
can begin with it, as with a system prompt.

{about.text.strip() or "Its publisher says nothing more about it."}

## What it is

| | |
|---|---|
{rows}

{_user_data(snapshot)}

## How to load it

```sh
rxt memory import NAME {place}
```

```python
from adapters import hub
from rxstream import Runtime

snapshot = hub.load("{place}")
runtime = Runtime(model, store="sqlite:///memories.db")
memory = runtime.memory("mine", snapshot=snapshot)
```

It fits the model that made it and no other. Loading it executes nothing, and a file that is not
what the digest says is refused. What it *tells* the model is another matter: treat it as an
instruction from whoever published it.
"""


def _facts(snapshot: Snapshot) -> dict[str, str]:
    tensors = tensorfile.parse(snapshot.state).tensors
    return {
        "file format": "rxstream.stm, a safetensors file",
        "digest": snapshot.digest,
        "model": snapshot.fingerprint,
        "tensors": ", ".join(
            f"{name} {entry.dtype} {'x'.join(map(str, entry.shape))}"
            for name, entry in tensors.items()
        ),
        "version": str(snapshot.version),
        "made by": snapshot.writer,
        **snapshot.metadata,
    }


def _cell(text: str) -> str:
    """Text of anybody's as one harmless cell of a table."""
    return " ".join(text.replace("`", "'").replace("|", "/").split())[:500]


def _user_data(snapshot: Snapshot) -> str:
    if snapshot.contains_user_data:
        return "It was made of what a user said, and can tell it."
    return "Its publisher states that it holds nothing that a user said."
