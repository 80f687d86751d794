"""The log: order, bounds, policies, and every way in which a reader can end."""

from __future__ import annotations

import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream.errors import SlowSubscriberError
from rxstream.events import Gap
from rxstream.log import EMPTY, END, EventLog

from .log_readers import POLICIES, inline, rest


class TestPlaces:
    def test_a_reader_begins_now_at_an_event_or_some_events_back(self) -> None:
        log: EventLog[int] = EventLog(8)
        log.extend(range(5))
        assert rest(log.cursor()) == []
        assert rest(log.cursor(start=0)) == [0, 1, 2, 3, 4]
        assert rest(log.cursor(start=3)) == [3, 4]
        assert rest(log.cursor(replay=2)) == [3, 4]
        assert rest(log.cursor(replay=0)) == []
        assert rest(log.cursor(replay=99)) == [0, 1, 2, 3, 4]

    def test_replay_gives_what_is_kept_and_a_lost_start_is_an_error(self) -> None:
        log: EventLog[int] = EventLog(4)
        log.extend(range(100))
        assert rest(log.cursor(replay=50)) == [96, 97, 98, 99]
        late = log.cursor(start=0)
        assert late.take() is END and isinstance(late.error, SlowSubscriberError)

    @pytest.mark.parametrize("start", [-1, 4])
    def test_a_start_outside_of_the_log_is_refused(self, start: int) -> None:
        log: EventLog[int] = EventLog(8)
        log.extend(range(3))
        with pytest.raises(ValueError, match="between 0 and 3"):
            log.cursor(start=start)

    @pytest.mark.parametrize("capacity", [0, -1])
    def test_a_capacity_below_one_is_refused(self, capacity: int) -> None:
        with pytest.raises(ValueError, match="capacity"):
            EventLog(capacity)

    def test_nonsense_is_refused(self) -> None:
        log: EventLog[int] = EventLog(1)
        with pytest.raises(ValueError, match="replay"):
            log.cursor(replay=-1)
        with pytest.raises(ValueError, match="overflow"):
            log.cursor(overflow="drop")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="spare"):
            EventLog(1, spare=-1)

    def test_any_number_of_readers_see_the_same_events_in_the_same_order(self) -> None:
        log: EventLog[int] = EventLog(64)
        readers = [inline(log) for _ in range(8)]
        log.extend(range(50))
        log.close()
        assert all(r.items == list(range(50)) and r.ended for r in readers)

    def test_what_nobody_can_read_any_more_is_not_kept(self) -> None:
        class Thing:
            pass

        log: EventLog[Thing] = EventLog(4, spare=0)
        first = Thing()
        seen = weakref.ref(first)
        log.append(first)
        del first
        log.extend(Thing() for _ in range(5))  # the place after the capacity is written to first
        assert seen() is None and len(log.ring) == 5


class TestTheEnd:
    def test_comes_after_the_last_event_and_only_once(self) -> None:
        log: EventLog[int] = EventLog(8)
        cursor = log.cursor()
        log.append(1)
        log.close()
        assert [cursor.take() for _ in range(3)] == [1, END, END]
        assert cursor.error is None and log.readers == 0

    def test_with_an_error_reaches_every_reader_also_late_ones(self) -> None:
        log: EventLog[int] = EventLog(8)
        early, pulled = inline(log), log.cursor()
        log.append(1)
        failure = RuntimeError("over")
        log.close(failure)
        late = inline(log, start=0)
        assert rest(pulled) == [1] and pulled.error is failure
        for recorder in (early, late):
            assert recorder.items == [1] and recorder.error is failure and recorder.late == 0

    def test_nothing_comes_after_it(self) -> None:
        log: EventLog[int] = EventLog(8)
        recorder = inline(log)
        log.close()
        assert log.append(1) is False and log.push(2) is False
        log.flush()
        log.close(RuntimeError("too late"))
        assert recorder.items == [] and recorder.ended and recorder.late == 0
        assert log.error is None and log.head == 0

    def test_reaches_a_full_reader_without_being_asked_for(self) -> None:
        log: EventLog[int] = EventLog(2)
        cursor = log.cursor(overflow="block")
        log.extend(range(2))
        log.append(99)  # a failure, a cancellation: never held up
        log.close(RuntimeError("failed"))
        assert rest(cursor) == [0, 1, 99] and isinstance(cursor.error, RuntimeError)

    def test_of_a_reader_who_left_is_silence(self) -> None:
        log: EventLog[int] = EventLog(8)
        cursor = log.cursor()
        log.append(1)
        for _ in range(3):
            cursor.leave()
        log.close(RuntimeError("over"))
        assert cursor.take() is END and cursor.error is None


class TestPolicyError:
    def test_a_reader_may_be_as_far_behind_as_the_capacity(self) -> None:
        log: EventLog[int] = EventLog(4)
        cursor = log.cursor()
        log.extend(range(4))
        assert rest(cursor) == [0, 1, 2, 3]

    def test_one_event_further_ends_this_reader_alone(self) -> None:
        log: EventLog[int] = EventLog(4)
        slow, other = log.cursor(), inline(log)
        log.extend(range(5))
        assert slow.take() is END
        assert isinstance(slow.error, SlowSubscriberError) and "5 events behind" in str(slow.error)
        assert other.items == [0, 1, 2, 3, 4] and log.readers == 1

    def test_it_never_holds_up_the_producer(self) -> None:
        log: EventLog[int] = EventLog(4)
        log.cursor()
        log.extend(range(400))
        assert log.ready()


class TestPolicyLatest:
    def test_a_lapped_reader_gets_a_gap_and_the_newest_event(self) -> None:
        log: EventLog[int] = EventLog(4)
        cursor = log.cursor(overflow="latest")
        log.extend(range(10))
        assert rest(cursor) == [Gap(skipped=9), 9]
        log.append(10)
        assert rest(cursor) == [10]

    def test_it_never_holds_up_the_producer(self) -> None:
        log: EventLog[int] = EventLog(4)
        log.cursor(overflow="latest")
        log.extend(range(400))
        assert log.ready()


@st.composite
def schedules(draw: st.DrawFn) -> list[str]:
    steps = st.sampled_from(["append"] * 3 + ["take"] * 2 + ["close"])
    return draw(st.lists(steps, max_size=60))


@pytest.mark.parametrize("overflow", POLICIES)
@given(schedule=schedules(), capacity=st.integers(1, 5))
def test_a_reader_gets_what_the_model_of_its_policy_says(overflow, schedule, capacity) -> None:
    log: EventLog[int] = EventLog(capacity, spare=2)
    cursor = log.cursor(overflow=overflow)
    waiting: list[int] = []
    made, closed = 0, False
    for step in schedule:
        if step == "append":
            assert log.append(made) is not closed
            if not closed:
                waiting.append(made)
                made += 1
        elif step == "close":
            log.close()
            closed = True
        elif len(waiting) > (capacity + 2 if overflow == "block" else capacity):
            if overflow == "latest":
                assert cursor.take() == Gap(skipped=len(waiting) - 1)
                del waiting[:-1]
            else:
                assert cursor.take() is END and isinstance(cursor.error, SlowSubscriberError)
                return
        elif waiting:
            assert cursor.take() == waiting.pop(0)
        else:
            assert cursor.take() is (END if closed else EMPTY)
            if closed:
                return
        gated = overflow == "block" and len(waiting) >= capacity and not closed
        assert log.ready() is not gated
