"""The checker accepts every word of the grammar and nothing else, and keeps G1, G3 and G4."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream.events import Event, GenerationStarted, MemoryUpdated
from rxstream.grammar import GrammarChecker, GrammarViolation, check
from rxstream.testing.grammar import check_word, spell, text_of

PREFIX = re.compile(r"X?|Q(C|F|(ST*(C|F|(A(K|(U[DE]?)?)?)?)?)?)?")
WORDS = ["X", "QC", "QF", "QSC", "QSF", "QSA", "QSTTAK", "QSTAUD", "QSTTTAUE", "QSTC", "QSTTF"]


def renumbered(events: Iterable[Event]) -> list[Event]:
    return [dataclasses.replace(event, seq=n) for n, event in enumerate(events, 1)]


def violated(events: Iterable[Event], **options: bool) -> str:
    with pytest.raises(GrammarViolation) as caught:
        check(events, **options)
    assert str(caught.value).startswith(caught.value.rule)
    return caught.value.rule


@given(st.text("XQSTACFKUDE", max_size=8))
def test_a_prefix_of_a_word_is_accepted_and_nothing_else(letters: str) -> None:
    if PREFIX.fullmatch(letters):
        check(spell(letters), whole=True)
    else:
        assert violated(spell(letters)) == "G2"


@pytest.mark.parametrize("word", WORDS)
def test_words_of_the_grammar_are_accepted(word: str) -> None:
    checker = check(spell(word), whole=True)
    if word != "QSA":
        checker.finish()
        assert checker.open == frozenset() and checker.state("i1") == "$"
        check_word(spell(word))
        for letter in "XQSTACFKUDE":  # nothing comes after the end
            assert violated(spell(word + letter)) == "G2"


def test_a_stream_that_ends_inside_of_an_interaction_is_told() -> None:
    checker = check(spell("QSTTTA"))
    assert checker.open == {"i1"} and checker.word("i1") == "QSTA"
    with pytest.raises(GrammarViolation, match="QSTA"):
        checker.finish()


def test_an_interaction_not_seen_yet_is_at_the_beginning() -> None:
    assert GrammarChecker().state("i9") == "0" and GrammarChecker().word("i9") == ""


def test_tokens_are_counted_without_gaps_on_a_whole_stream() -> None:
    events = spell("QSTTTA")
    del events[3]
    assert violated(renumbered(events), whole=True) == "G2"
    check(events)  # joined tokens leave gaps
    again = spell("QST") + [dataclasses.replace(spell("QST")[2], seq=4)]
    assert violated(again) == "G2"


class TestOrder:
    def test_on_a_whole_stream_seq_has_no_gaps(self) -> None:
        events = spell("QSTAUD")
        events[4:] = [dataclasses.replace(event, seq=event.seq + 1) for event in events[4:]]
        assert violated(events, whole=True) == "G1"
        check(events)

    @pytest.mark.parametrize("seq", [1, 2, 0])
    def test_seq_never_repeats_and_never_goes_back(self, seq: int) -> None:
        events = spell("QSA")
        events[2] = dataclasses.replace(events[2], seq=seq)
        assert violated(events) == "G1"


class TestExclusion:
    @pytest.mark.parametrize("letter", "STAUDEK")
    def test_nobody_else_speaks_or_writes_while_one_runs(self, letter: str) -> None:
        words = {"S": "QS", "T": "QST", "A": "QSA", "U": "QSAU", "D": "QSAUD", "E": "QSAUE"}
        other = spell({**words, "K": "QSAK"}[letter], "i2")
        mine = spell("QSTTAUD", "i1")
        for cut in range(2, 7):
            events = renumbered([*other[:-1], *mine[:cut], other[-1]])
            # All but an S of the other needs an S before, which is out of place already.
            assert violated(events) == "G3"
            check(events, serial=False)

    def test_queueing_goes_on(self) -> None:
        one, two, three = spell("QSTTAUD", "i1"), spell("QC", "i2"), spell("X", "i3")
        events = [one[0], one[1], two[0], one[2], three[0], one[3], two[1], *one[4:]]
        check(renumbered(events), whole=True).finish()

    def test_the_next_begins_after_the_end_of_the_one_before(self) -> None:
        one, two = spell("QSTAUD", "i1"), spell("QSTAK", "i2", version=1)
        check(renumbered([one[0], two[0], *one[1:], *two[1:]]), whole=True).finish()


class TestFreshness:
    def test_each_interaction_reads_the_version_that_the_last_one_wrote(self) -> None:
        one = spell("QSTAUD", "i1", version=4)
        check(renumbered([*one, *spell("QSAUE", "i2", version=5)]), whole=True)
        for stale in (3, 4, 6):
            events = renumbered([*one, *spell("QS", "i2", version=stale)])
            assert violated(events, whole=True) == "G4"

    def test_a_failed_update_changes_no_version(self) -> None:
        one = spell("QSAUE", "i1", version=4)
        check(renumbered([*one, *spell("QSAUD", "i2", version=4)]), whole=True)
        assert violated(renumbered([*one, *spell("QS", "i2", version=5)]), whole=True) == "G4"

    @pytest.mark.parametrize("version", [4, 6, 3])
    def test_an_update_adds_exactly_one(self, version: int) -> None:
        events = spell("QSAUD", version=4)
        last = events[-1]
        assert isinstance(last, MemoryUpdated)
        events[-1] = dataclasses.replace(last, version=version)
        assert violated(events) == "G4"

    def test_a_part_of_the_memorys_stream_may_miss_versions_but_never_goes_back(self) -> None:
        one = spell("QSAUD", "i1", version=4)
        check(renumbered([*one, *spell("QSAUD", "i2", version=9)]))
        assert violated(renumbered([*one, *spell("QS", "i2", version=4)])) == "G4"

    def test_without_isolation_a_read_may_be_stale_and_an_update_never(self) -> None:
        one, two = spell("QSAUD", "i1"), spell("QSAUD", "i2")
        events = [*one[:2], *two[:2], *one[2:], *two[2:]]
        assert violated(renumbered(events), serial=False) == "G4"
        events[-2:] = spell("UD", "i2", version=1)
        check(renumbered(events), serial=False, whole=True).finish()

    def test_a_read_from_the_future_is_refused_without_isolation_too(self) -> None:
        events = [*spell("QSAUD", "i1"), *spell("QS", "i2", version=2)]
        assert violated(renumbered(events), serial=False, whole=True) == "G4"


class TestRestore:
    def restored(self, version: int) -> MemoryUpdated:
        return MemoryUpdated(
            conversation="", interaction="", seq=0, version=version, cause="restore"
        )

    def test_stands_between_interactions_and_adds_one(self) -> None:
        one, two = spell("QSAUD", "i1"), spell("QSAUD", "i2", version=2)
        check(renumbered([*one, self.restored(2), *two]), whole=True).finish()
        check(renumbered([self.restored(1), self.restored(2)]), whole=True).finish()
        assert violated(renumbered([*one, self.restored(3)]), whole=True) == "G4"
        assert violated(renumbered([*one, self.restored(1)])) == "G4"

    def test_never_happens_under_a_running_interaction(self) -> None:
        events = renumbered([*spell("QST"), self.restored(1)])
        assert violated(events) == "G3"


def test_spelled_answers_agree_with_their_tokens() -> None:
    started = spell("QSTTTA", version=3)[1]
    assert isinstance(started, GenerationStarted) and started.read_version == 3
    assert getattr(spell("QSTTTA")[-1], "text", "") == text_of(3) == "abc"
