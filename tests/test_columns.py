"""Tables for terminals."""

from __future__ import annotations

from irnscale.columns import aligned


def test_words_from_the_left_and_numbers_from_the_right():
    lines = aligned([["name", "", "dB"], ["irn-x2", "x2", "41.97"], [], ["a", "x4", "9"]], words=2)
    assert lines == ["name           dB", "irn-x2  x2  41.97", "", "a       x4      9"]


def test_no_blanks_at_the_end():
    assert aligned([["a", "b"], ["long", ""]], words=2) == ["a     b", "long"]
