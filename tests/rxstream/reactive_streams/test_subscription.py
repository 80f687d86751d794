"""Rules 3.02 to 3.17: what holds between a stream and one reader."""

from __future__ import annotations

import gc
import sys
import threading
import weakref

import pytest

from rxstream import Runtime, aiter, bounded
from rxstream.log import EventLog
from rxstream.testing import FakeModel

from ..room import Room
from .readers import KINDS, Reader, cases, live


def depth() -> int:
    frame, count = sys._getframe(), 0
    while (frame := frame.f_back) is not None:
        count += 1
    return count


@cases("302")
def test_rule_302_asking_and_cancelling_while_handling_an_event(kind, overflow, read) -> None:
    room = Room()
    asked = []

    def on_item(event):
        if event.kind == "token" and event.index < 2:
            asked.append(room.chat.ask(f"again {event.index}", detach="keep"))
        elif event.kind == "token":
            asked.append(asked[0].cancel())

    reader = read(kind, room.chat.ask("one two", detach="keep"), overflow, on_item=on_item)
    room.lab.run()
    assert reader.read_to_the_end().letters == "QSTTTAUD"
    room.lab.run()
    again, kept, told = asked
    assert told is True and room.word(again) == "QC" and room.word(kept) == "QSTTTAUD"
    room.close()


@cases("303")
def test_rule_303_ten_thousand_events_emitted_while_handling_one_keep_the_stack_flat(
    kind, overflow, read
) -> None:
    log, stream = live(16)
    depths = set()

    def on_item(n):
        if n % 1000 == 5:
            depths.add(depth())
        if n < 10_000:
            log.append(n + 1)
        else:
            log.close()

    reader = read(kind, stream, overflow, on_item=on_item)
    reader.demand(10_002)
    log.append(0)
    assert reader.record.wait(20).items == list(range(10_001))
    assert len(depths) == 1, "the same depth at event 5 and at event 9,005"
    assert reader.record.overlaps == 0


@cases("304")
def test_rule_304_305_cancelling_returns_while_a_step_of_the_model_is_under_way(
    kind, overflow, read
) -> None:
    model = FakeModel()
    with Runtime(model) as runtime:
        pause = model.pause("step")
        it = runtime.memory("m").conversation().ask("hello")
        reader = read(kind, it, overflow)
        reader.demand(9)
        pause.wait_until_reached()
        reader.cancel()  # returns, or nothing would ever release the pause
        assert it.is_over and it.cancel() is False
        pause.release()
    model.check()


@cases("304")
def test_rule_305_cancelling_from_many_threads_at_once(kind, overflow, read) -> None:
    left: list[int] = []
    log, stream = live(on_detach=left.append)
    reader = read(kind, stream, overflow)
    threads = [threading.Thread(target=reader.cancel) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert left == [0] and log.readers == 0


@cases("306")
def test_rule_306_307_reading_and_cancelling_after_a_cancel_do_nothing(kind, overflow, read):
    left: list[int] = []
    log, stream = live(on_detach=left.append)
    reader = read(kind, stream, overflow)
    other = read("inline", stream, "error")
    for _ in range(3):
        reader.cancel()
    log.append(1)
    reader.demand(3)
    reader.cancel()
    assert left == [1] and reader.record.items == []
    assert other.record.items == [1]


@pytest.mark.parametrize("capacity", [0, -1])
@pytest.mark.parametrize("make", [EventLog, lambda n: bounded(live()[1], n)])
def test_rule_309_a_demand_below_one_is_refused(make, capacity) -> None:
    with pytest.raises(ValueError, match="capacity must be >= 1"):
        make(capacity)


@pytest.mark.parametrize("kind", KINDS)
def test_rule_309_a_policy_that_does_not_exist_is_refused(kind) -> None:
    log, stream = live()
    open_it = {
        "inline": lambda: log.subscribe(None, overflow="drop"),
        "blocking": lambda: stream.blocking(overflow="drop"),
    }.get(kind, lambda: aiter(stream, overflow="drop"))
    with pytest.raises(ValueError, match="overflow must be"):
        open_it()
    assert log.readers == 0


@cases("310")
def test_rule_310_311_a_read_may_let_the_publisher_go_on_at_once(kind, overflow, read) -> None:
    """On the thread that reads, before the read returns; and when_ready runs now if it is so."""
    log, stream = live(2)
    ran: list[int] = []
    log.when_ready(lambda: ran.append(threading.get_ident()))
    assert ran == [threading.get_ident()]
    reader = read(kind, stream, overflow, held=True)
    reader.hold(log, 0)
    log.extend([1, 2])

    def go_on():
        ran.append(threading.get_ident())
        log.append(3)
        log.close()

    log.when_ready(go_on)
    assert len(ran) == 1
    assert reader.read_to_the_end().items == [0, 1, 2, 3]
    assert ran[1] == reader.thread.ident, "where it was read"


class Handlers:
    def on_next(self, item):
        pass

    def on_error(self, error):
        pass

    def on_completed(self):
        pass


@cases("313")
def test_rule_312_313_a_cancelled_subscription_lets_go_of_its_subscriber(kind, overflow) -> None:
    log, stream = live()
    if kind == "inline":
        subscriber = Handlers()
        handlers = (subscriber.on_next, subscriber.on_error, subscriber.on_completed)
        cursor = log.subscribe(*handlers, overflow=overflow)
        dead = [weakref.ref(subscriber)]
        cursor.dispose()
        del subscriber, handlers
    else:
        reader = Reader(kind, stream, overflow)
        reader.join()
        dead = [weakref.ref(reader.handle), weakref.ref(reader)]
        cursor = reader.handle._cursor
        del reader
    gc.collect()
    assert [ref() for ref in dead] == [None] * len(dead)
    assert log.readers == 0 and cursor.closed


@cases("314")
@pytest.mark.parametrize("detach", ["cancel", "keep"])
def test_rule_314_the_last_one_to_cancel_may_stop_the_publisher(kind, overflow, detach, read):
    room = Room()
    it = room.chat.ask("one two", detach=detach)
    readers = [read(kind, it, overflow) for _ in range(3)]
    room.lab.run(3)
    for reader in readers[:-1]:
        reader.cancel()
    assert not it.is_over
    readers[-1].cancel()
    assert it.is_over is (detach == "cancel")
    room.lab.run()
    assert room.word(it)[-1] == ("C" if detach == "cancel" else "D")
    room.close()


@cases("315")
def test_rule_315_316_neither_cancelling_nor_reading_raises_what_others_raise(
    kind, overflow, read, caplog
) -> None:
    """A model that cannot release its decoding is not the reader's affair."""
    model = FakeModel()

    def fail(arguments):
        raise RuntimeError("cannot release")

    model.on("finish", fail, after=True)
    room = Room(model=model)
    it = room.chat.ask("one two")
    reader = read(kind, it, overflow)
    room.lab.run(3)
    reader.demand(2)
    reader.cancel()
    room.lab.run()
    assert it.is_over and "failed to release" in caplog.text
    room.close()


@cases("317")
def test_rule_317_a_reader_with_unbounded_demand_never_gates(kind, overflow, read) -> None:
    log, stream = live(2)
    reader = read(kind, stream, overflow, held=True)
    reader.hold(log, 0)
    for n in range(1000):
        assert log.ready()
        log.append(n)
    log.close()
    reader.read_to_the_end()
