"""Strings that end an answer: found wherever the text is cut, and never shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxtmodel import ConfigError
from rxtmodel.stops import StopStrings


def said(stops, pieces) -> tuple[str, str | None]:
    """Everything that was passed on, and the string that ended it."""
    found = StopStrings(stops)
    text = "".join(found.push(piece) for piece in pieces)
    return text + found.finish(), found.found


def test_without_stop_strings_text_passes_at_once():
    stops = StopStrings(())
    assert stops.push("one ") == "one " and stops.push("two") == "two" and stops.finish() == ""


def test_a_stop_string_inside_one_piece():
    assert said(["END"], ["so far END and more"]) == ("so far ", "END")


def test_a_stop_string_across_pieces():
    stops = StopStrings(["\n\n"])
    assert [stops.push(p) for p in ("a", "b\n", "\nc")] == ["a", "b", ""]
    assert stops.found == "\n\n" and stops.finish() == ""


def test_what_only_looked_like_one_is_passed_on():
    stops = StopStrings(["STOP"])
    assert [stops.push(p) for p in ("a ST", "ST", "AR", " STO")] == ["a ", "ST", "STAR", " "]
    assert stops.found is None and stops.finish() == "STO"


def test_nothing_comes_after_a_stop():
    stops = StopStrings(["x"])
    assert stops.push("ax") == "a" and stops.push("b") == "" and stops.finish() == ""


def test_the_one_that_is_complete_first_counts():
    assert said(["abcd", "bc"], ["abcd"]) == ("a", "bc")
    assert said(["bc", "abc"], ["abc"]) == ("", "abc")


def plain(stops, text) -> tuple[str, str | None]:
    """A letter at a time, looking at the end of everything so far."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            longest = max(complete, key=len)
            return text[: end - len(longest)], longest
    return text, None


letters = st.text("ab", min_size=0, max_size=12)


@given(st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.lists(letters, max_size=6))
def test_it_does_not_matter_where_the_text_is_cut(stops, pieces):
    assert said(stops, pieces) == plain(stops, "".join(pieces))


@given(st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.lists(letters, max_size=6))
def test_what_cannot_become_a_stop_string_is_not_held_back(stops, pieces):
    found, shown, text = StopStrings(stops), "", ""
    for piece in pieces:
        shown, text = shown + found.push(piece), text + piece
        if found.found is not None:
            return
        held = text[len(shown) :]
        assert text.startswith(shown)
        assert not held or any(stop.startswith(held) for stop in stops)


@pytest.mark.parametrize("stops", [[""], ["a", ""], "ab", [1]])
def test_stop_strings_that_cannot_be_are_refused(stops):
    with pytest.raises(ConfigError, match="stop strings are a list of texts, none empty, got"):
        StopStrings(stops)
