"""Rules 1.01 to 1.11: what a stream owes its readers."""

from __future__ import annotations

import threading

import pytest
from reactivex import operators as ops

from rxstream import Runtime
from rxstream.errors import GenerationError, QueryRejected
from rxstream.events import Gap
from rxstream.testing import FakeModel, Recorder

from ..room import Room
from .readers import Reader, cases, live


@cases("101 demand")
def test_rule_101_an_iterator_gets_no_more_than_it_reads(kind, overflow, read) -> None:
    log, stream = live()
    reader = read(kind, stream, overflow)
    log.extend(range(10))
    reader.demand(3)
    reader.record.wait_for(3)
    assert reader.handle.lag == 7
    log.append(10)
    reader.demand(1)
    assert reader.record.wait_for(4) == [0, 1, 2, 3]
    assert len(reader.record.items) == 4


@cases("101 gate")
def test_rule_101_a_gating_reader_has_at_most_its_capacity_undelivered(kind, overflow, read):
    log, stream = live(8)
    reader = read(kind, stream, overflow, held=True)
    reader.hold(log, 0)
    emitted = 1
    while log.ready():
        log.append(emitted)
        emitted += 1
    assert emitted == 9 and log.lag == 8
    log.close()
    assert reader.read_to_the_end().items == list(range(9))


@cases("102")
def test_rule_102_a_stream_may_give_less_than_demanded_and_end(kind, overflow, read) -> None:
    log, stream = live()
    reader = read(kind, stream, overflow)
    reader.demand(10)
    log.extend([1, 2])
    log.close()
    assert reader.record.wait().items == [1, 2] and reader.record.ended


@cases("103")
def test_rule_103_signals_are_serial_however_many_threads_emit(kind, overflow, read) -> None:
    log, stream = live(4096)
    reader = read(kind, stream, overflow)
    reader.demand(8 * 50 + 1)
    gate = threading.Barrier(8)

    def emit(number):
        gate.wait()
        for n in range(50):
            log.append((number, n))

    threads = [threading.Thread(target=emit, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    log.close()
    record = reader.record.wait()
    assert record.overlaps == record.late == 0
    for number in range(8):
        assert [n for who, n in record.items if who == number] == list(range(50))


@cases("104")
@pytest.mark.parametrize("after", [0, 1, 5])
def test_rule_104_a_failure_is_signalled_as_an_error(kind, overflow, after, read) -> None:
    log, stream = live()
    reader = read(kind, stream, overflow)
    reader.demand(9)
    log.extend(range(after))
    log.close(error := RuntimeError("broken"))
    assert reader.record.wait().error is error and not reader.record.ended
    assert reader.record.items == list(range(after))


@cases("104 interaction")
@pytest.mark.parametrize("after", range(4))
def test_rule_104_a_fault_at_every_step_of_an_answer(kind, overflow, after, read) -> None:
    room = Room()
    room.model.fail("step", RuntimeError("broken"), skip=after)
    it = room.chat.ask("one two", detach="keep")
    reader = read(kind, it, overflow)
    room.lab.run()
    record = reader.read_to_the_end()
    assert record.letters == "QS" + "T" * after + "F"
    assert isinstance(record.error, GenerationError)
    room.close()


@cases("105")
@pytest.mark.parametrize("count", [0, 1, 5])
def test_rule_105_a_finite_stream_completes(kind, overflow, count, read) -> None:
    log, stream = live()
    reader = read(kind, stream, overflow)
    reader.demand(9)
    log.extend(range(count))
    log.close()
    assert reader.record.wait().ended and reader.record.error is None
    assert reader.record.items == list(range(count))


@cases("105 interaction")
@pytest.mark.parametrize("query, word", [("mute", "QSAK"), ("one", "QSTTAUD")])
def test_rule_105_an_empty_answer_completes_as_a_full_one(kind, overflow, query, word, read):
    room = Room()
    it = room.chat.ask(query, detach="keep")
    reader = read(kind, it, overflow)
    room.lab.run()
    assert reader.read_to_the_end().letters == word and reader.record.ended
    room.close()


@cases("106")
@pytest.mark.parametrize("error", [None, RuntimeError("broken")])
def test_rule_106_after_the_end_the_subscription_is_over(kind, overflow, error, read) -> None:
    log, stream = live(2)
    reader = read(kind, stream, overflow, held=True)
    reader.hold(log, 0)
    log.extend([1, 2])
    log.close(error)
    reader.read_to_the_end()
    assert log.readers == 0 and log.ready() and not log.gates


@cases("107")
@pytest.mark.parametrize("error", [None, RuntimeError("broken")])
def test_rule_107_nothing_comes_after_the_end(kind, overflow, error, read) -> None:
    log, stream = live()
    reader = read(kind, stream, overflow)
    reader.demand(9)
    log.append(1)
    threads = [
        threading.Thread(target=lambda: (log.close(error), log.append(2), log.close()))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    record = reader.record.wait()
    assert log.append(3) is False
    reader.demand(3)
    assert record.items in ([1], [1, 2]) and record.late == 0
    assert (record.error, record.ended) in ((error, error is None), (None, True))


@cases("108")
def test_rule_108_a_cancelled_reader_gets_at_most_the_item_in_flight(kind, overflow, read) -> None:
    log, stream = live()
    reader = read(kind, stream, overflow, held=True)
    reader.hold(log, 0)
    log.append(1)
    reader.cancel()
    log.extend(range(2, 9))
    reader.let_go()
    reader.demand(3)
    reader.join()
    assert reader.record.items == [0] and reader.record.error is None


@cases("108 own")
def test_rule_108_disposing_inside_of_on_next_is_silence_at_once(kind, overflow, read) -> None:
    log, stream = live()
    reader = read(kind, stream, overflow, on_item=lambda item: reader.cancel())
    log.extend(range(9))
    log.close()
    assert reader.record.items == [0] and not reader.record.over


@cases("109")
def test_rule_109_subscribing_to_what_is_over_returns_and_signals(kind, overflow, read) -> None:
    with Runtime(FakeModel()) as runtime:
        memory = runtime.memory("m")
        memory.conversation().ask("one").result(30)
    ended = read(kind, memory.events, overflow)
    assert ended.read_to_the_end().items == [] and ended.record.ended
    late = memory.conversation().ask("late", raise_on_reject=False)
    rejected = read(kind, late, overflow).read_to_the_end()
    assert rejected.letters == "X" and isinstance(rejected.error, QueryRejected)


@pytest.mark.parametrize(
    "wrong", [(object(),), (1,), (print, 1), (print, None, "no"), ([].append, None, object())]
)
def test_rule_109_what_cannot_be_called_is_refused_when_subscribing(wrong) -> None:
    log, stream = live()
    with pytest.raises(TypeError, match="callable"):
        stream.subscribe(*wrong)
    assert log.readers == 0


@cases("111")
def test_rule_110_111_all_readers_get_the_same_in_the_same_order(kind, overflow, read) -> None:
    log, stream = live()
    readers = [read(kind, stream, overflow) for _ in range(4)]
    readers += [read("inline", stream, "error"), read("blocking", stream, "block")]
    log.extend(range(20))
    late = read(kind, stream, overflow, start=0)
    log.extend(range(20, 40))
    log.close()
    for reader in (*readers, late):
        assert reader.read_to_the_end().items == list(range(40))


@cases("111")
def test_rule_111_operators_share_the_stream_and_not_the_work(kind, overflow, read) -> None:
    room = Room()
    it = room.chat.ask("one two", detach="keep")
    upper = Recorder(it.pipe(ops.filter(lambda e: e.kind == "token"), ops.map(lambda e: e.text)))
    readers = [read(kind, it, overflow) for _ in range(2)]
    room.lab.run()
    first, second = (reader.read_to_the_end().items for reader in readers)
    assert first == second == room.of(it) and len(upper.items) == 3
    assert room.model.calls["start"] == 1, "two readers, one execution"
    room.close()


def test_readers_differ_when_they_fall_behind() -> None:
    """The harness is no decoration: the three policies show three behaviours."""
    for overflow, expected in (("error", []), ("latest", [Gap(skipped=29), 29])):
        log, stream = live(4)
        reader = Reader("blocking", stream, overflow)
        log.extend(range(30))
        log.close()
        record = reader.read_to_the_end()
        reader.join()
        assert record.items == expected
        assert (record.error is not None) is (overflow == "error")
