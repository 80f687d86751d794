"""The same users, divided among processes that each have a runtime and the model, on one device."""

from __future__ import annotations

import functools
import gc
import multiprocessing
import random
from multiprocessing import connection
from typing import TYPE_CHECKING, NamedTuple

import torch

from adapters.model import load_model
from adapters.rxt_adapter import RxtAdapter
from adapters.tokenizer import Tokenizer
from rxtmodel.layout import arrange

from . import llama
from .engine_load import shape_of
from .engine_model import mini
from .loop import endless
from .users_load import Place, Times, through

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.synchronize import Barrier

_PATIENCE = 300.0


class Wanted(NamedTuple):
    """What a process needs to know to measure."""

    model: str | None
    """As ``load_model`` takes it; None: "mini" with random weights on a GPU."""
    count: int
    seconds: float

    def place(self) -> Place:
        """With the model in it."""
        if self.model is None:
            port = _mini(self.count)
        else:
            given = endless(load_model(self.model))
            port = RxtAdapter(
                given.model, given.tokenizer, max_batch=self.count, fingerprint="endless"
            )
        shape = shape_of(port.model.config.max_seq_len)
        temperature = 0.8 if self.model is None else 0.0
        return Place(port, self.count, self.seconds, temperature, shape)


def divided(wanted: Wanted, processes: int) -> Times:
    """``wanted.count`` users in all, who subscribe. Raises RuntimeError where a process fails."""
    context = multiprocessing.get_context("spawn")
    barrier, share = context.Barrier(processes), wanted._replace(count=wanted.count // processes)
    ends, running, found = [], [], []
    try:
        for _ in range(processes):
            end, other = context.Pipe(duplex=False)
            process = context.Process(target=_measure, args=(share, barrier, other), daemon=True)
            process.start()
            other.close()
            ends.append(end)
            running.append(process)
        while len(found) < processes:
            ready = connection.wait(ends, _PATIENCE)
            if not ready:
                raise RuntimeError(f"a process that measures says nothing for {_PATIENCE} s")
            for end in ready:
                found.append(end.recv())
                ends.remove(end)
    except EOFError as error:
        raise RuntimeError("a process that measures has failed; its error was printed") from error
    finally:
        for process in running:
            process.terminate()
            process.join()
    return functools.reduce(Times.joined, found)


def _measure(wanted: Wanted, barrier: Barrier, end: Connection) -> None:
    try:
        place = wanted.place()
        gc.collect()
        gc.freeze()
        end.send(through("subscribe", place, lambda: barrier.wait(_PATIENCE)))
    except BaseException:
        barrier.abort()  # or the others would wait for this one
        raise


def _mini(count: int) -> RxtAdapter:
    model = arrange(mini().to("cuda", torch.bfloat16).eval().requires_grad_(False))
    draw, words = random.Random(0), []
    for _ in range(20_000):
        syllables = [draw.choice("bdfklmnprst") + draw.choice("aeiou") for _ in range(4)]
        words.append("".join(syllables)[: draw.randint(3, 8)])
    tokenizer = Tokenizer.train([" ".join(words)], vocab_size=llama.VOCAB)
    return RxtAdapter(model, tokenizer, max_batch=count, fingerprint="random")
