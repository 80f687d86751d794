"""Numbers on their way to a device and back, on a CPU; for a GPU see ``test_gpu_engine``."""

from __future__ import annotations

import struct

import torch

from rxtmodel.engine.graphs import put, put_rows
from rxtmodel.engine.handover import Inbox, Outbox


def test_what_is_put_into_an_inbox_stands_in_its_tensor():
    tensor = torch.ones(2, 3, dtype=torch.int64)
    inbox = Inbox(tensor, None)
    put(inbox.open(), 0, "q", (1, -2, 1 << 40, 4, 5, 6))
    inbox.send()
    assert tensor.tolist() == [[1, -2, 1 << 40], [4, 5, 6]]


def test_numbers_of_several_types_lie_one_behind_the_other():
    tensor = torch.zeros(8 * 4 + 4 * 2, dtype=torch.uint8)
    inbox = Inbox(tensor, None)
    at = put_rows(inbox.open(), [(7, 8), (9,)], (2, 2), "q")
    assert put(inbox.open(), at, "f", (0.5, -1.0)) == tensor.nbytes
    assert struct.unpack("4q2f", bytes(tensor.tolist())) == (7, 8, 9, 0, 0.5, -1.0)


def test_a_place_is_written_to_as_a_whole():
    """Arrays of ctypes take slices byte by byte, milliseconds for a batch of interactions."""
    assert isinstance(Inbox(torch.zeros(8, dtype=torch.uint8), None).open(), memoryview)


def test_rows_that_were_longer_before_leave_nothing_behind():
    tensor = torch.zeros(2, 3, dtype=torch.int32)
    inbox = Inbox(tensor, None)
    put_rows(inbox.open(), [(1, 2, 3), (4, 5, 6)], (2, 3))
    put_rows(inbox.open(), [(9,)], (2, 3))
    assert tensor.tolist() == [[9, 0, 0], [0, 0, 0]]


def test_a_letter_says_what_stood_there_when_it_was_fetched():
    tensor = torch.tensor([1, 2], dtype=torch.int32)
    letter = Outbox(tensor, None).fetch()
    tensor += 5
    assert letter.read() == letter.read() == [1, 2]
