"""coalesce: fewer tokens, the same text, never out of order, never later than the window."""

from __future__ import annotations

import threading

import pytest
from reactivex.subject import Subject
from reactivex.testing import ReactiveTest, TestScheduler

from rxstream.events import Event, Token
from rxstream.operators import coalesce
from rxstream.testing import Recorder
from rxstream.testing.grammar import spell, text_of

on_next, on_completed, on_error = (
    ReactiveTest.on_next,
    ReactiveTest.on_completed,
    ReactiveTest.on_error,
)


def shown(event: Event) -> str:
    return event.text if isinstance(event, Token) else event.kind


def timeline(*messages, ms: float = 50_000):
    """What comes out when, in virtual seconds (a window of 50 is 50 000 ms)."""
    scheduler = TestScheduler()
    source = scheduler.create_hot_observable(*messages)
    result = scheduler.start(lambda: source.pipe(coalesce(ms)))
    return [
        (int(m.time), shown(m.value.value) if m.value.kind == "N" else m.value.kind)
        for m in result.messages
    ]


def test_tokens_within_the_window_become_one_when_it_ends() -> None:
    a, b, c, d = spell("TTTT")
    assert timeline(
        *(on_next(210, a), on_next(220, b), on_next(259, c), on_next(300, d), on_completed(400))
    ) == [(260, "abc"), (350, "d"), (400, "C")]


def test_the_joined_token_has_the_numbers_of_its_last_part() -> None:
    subject: Subject[Event] = Subject()
    recorder = Recorder(subject.pipe(coalesce(1000)))
    for event in spell("QSTTTA"):
        subject.on_next(event)
    joined = recorder.items[2]
    assert isinstance(joined, Token)
    assert (joined.text, joined.seq, joined.index, joined.id) == ("abc", 5, 2, 2)
    subject.on_completed()


def test_any_other_event_first_lets_go_what_is_held() -> None:
    q, s, a, b, done = spell("QSTTA")
    assert timeline(
        *(on_next(210, q), on_next(211, s), on_next(220, a), on_next(225, b), on_next(230, done))
    ) == [(210, q.kind), (211, s.kind), (230, "ab"), (230, "answer_completed")]


def test_tokens_of_two_interactions_or_channels_are_not_joined() -> None:
    (one,), (two,) = spell("T", "i1"), spell("T", "i2")
    assert timeline(on_next(210, one), on_next(220, two)) == [(220, "a"), (270, "a")]


@pytest.mark.parametrize(("end", "kind"), [(on_completed(230), "C"), (on_error(230, "no"), "E")])
def test_the_end_lets_go_what_is_held(end, kind) -> None:
    assert timeline(on_next(210, spell("T")[0]), end) == [(230, "a"), (230, kind)]


def test_disposed_it_drops_what_is_held_and_its_timer() -> None:
    scheduler = TestScheduler()
    source = scheduler.create_hot_observable(on_next(210, spell("T")[0]))
    result = scheduler.start(lambda: source.pipe(coalesce(50_000)), disposed=240)
    assert result.messages == [] and source.subscriptions[0].unsubscribe == 240


def test_on_a_real_clock_the_last_tokens_come_without_another_event() -> None:
    subject: Subject[Event] = Subject()
    recorder = Recorder(subject.pipe(coalesce(1)))
    subject.on_next(spell("T")[0])
    assert [shown(event) for event in recorder.wait_for(1)] == ["a"]
    subject.on_completed()


def test_timer_and_source_never_overlap_and_lose_no_text() -> None:
    subject: Subject[Event] = Subject()
    recorder = Recorder(subject.pipe(coalesce(0.01)))

    def emit() -> None:
        for event in spell("T" * 300):
            subject.on_next(event)
        subject.on_completed()

    thread = threading.Thread(target=emit)
    thread.start()
    recorder.wait()
    thread.join()
    assert "".join(shown(event) for event in recorder.items) == text_of(300)
    assert recorder.overlaps == 0


@pytest.mark.parametrize("ms", [0, -1, float("nan")])
def test_the_window_must_be_positive(ms: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        coalesce(ms)
