"""The judge of histories is judged first: it must accept what can be and refuse what cannot."""

from __future__ import annotations

from tests.simulation.linearizability import Call, explanation


def test_calls_one_after_another_have_one_order() -> None:
    earn, spend = Call(called=0, returned=1, change=5), Call(called=2, returned=3, change=-5)
    assert explanation([spend, earn], opening=0, closing=0) == [earn, spend]
    assert explanation([spend, earn], opening=0, closing=5) is None


def test_a_refusal_needs_a_moment_without_the_money() -> None:
    earn = Call(called=0, returned=3, change=5)
    refused = Call(called=1, returned=2, change=-5, is_refused=True)
    assert explanation([earn, refused], opening=0, closing=5) == [refused, earn]
    late = Call(called=4, returned=5, change=-5, is_refused=True)
    assert explanation([earn, late], opening=0, closing=5) is None
    assert explanation([earn, refused], opening=5, closing=10) is None


def test_of_two_spends_of_the_last_points_one_must_hear_no() -> None:
    both = [Call(called=number, returned=9, change=-5) for number in range(2)]
    assert explanation(both, opening=5, closing=-5) is None
    assert explanation(both, opening=5, closing=0) is None
    one = Call(called=1, returned=9, change=-5, is_refused=True)
    assert explanation([both[0], one], opening=5, closing=0) == [both[0], one]


def test_the_figure_in_a_refusal_must_have_been_true() -> None:
    spend = Call(called=0, returned=9, change=-3)
    for told, is_possible in ((5, False), (2, True), (4, False), (None, True)):
        refused = Call(called=1, returned=8, change=-4, is_refused=True, told=told)
        assert bool(explanation([spend, refused], opening=5, closing=2)) is is_possible


def test_a_reader_may_not_see_the_past() -> None:
    earn = Call(called=0, returned=1, change=5)
    during, after = Call(called=0, returned=2, seen=0), Call(called=2, returned=3, seen=0)
    assert explanation([earn, during], opening=0, closing=5) == [during, earn]
    assert explanation([earn, after], opening=0, closing=5) is None


def test_two_readers_may_not_see_a_change_come_and_go() -> None:
    earn = Call(called=0, returned=9, change=5)
    new, old = Call(called=1, returned=2, seen=5), Call(called=3, returned=4, seen=0)
    assert explanation([earn, new, old], opening=0, closing=5) is None
