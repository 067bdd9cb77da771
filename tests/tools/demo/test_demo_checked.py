"""Every value from a browser is checked again: what is none is refused in a short message that can be read."""

import math

import pytest

from sfumato.tools.demo.checked import choice, flag, interval, number, several, text, whole

NAN, INF = math.nan, math.inf
NONE = [None, True, "3", "", [], [3], {}, {"a": 1}, NAN, INF, -INF, 10**5000, -(10**5000), 1e308, 2**70, -1, 0, b"3"]


@pytest.mark.parametrize("value", [*NONE, 2.7, 11], ids=range(len(NONE) + 2))
def test_what_is_no_whole_number(value):
    with pytest.raises(ValueError, match=r"steps is .*; allowed: whole numbers from 1 to 10$") as found:
        whole(value, "steps", 1, 10)
    assert len(str(found.value)) < 120


def test_whole_numbers():
    assert [whole(v, "x", 1, 2**70) for v in (1, 3.0, 2**70, 2**53 + 1)] == [1, 3, 2**70, 2**53 + 1]
    assert isinstance(whole(3.0, "x", 1, 10), int)


@pytest.mark.parametrize("value", [v for v in NONE if v != 0 or isinstance(v, bool)], ids=range(len(NONE) - 1))
def test_what_is_no_number(value):
    with pytest.raises(ValueError, match=r"scale is .*; allowed: numbers from 0 to 10$"):
        number(value, "scale", 0, 10)


def test_numbers_keep_their_value():
    assert [number(v, "x", -1, 1) for v in (0, -1, 0.5, 5e-324)] == [0, -1, 0.5, 5e-324]


@pytest.mark.parametrize("value", [0, 1, "true", None, [], 1.0], ids=range(6))
def test_what_is_no_flag(value):
    with pytest.raises(ValueError, match="allowed: true, false"):
        flag(value, "x")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "allowed: a text"), (["a"], "is a list; allowed: a text"), ({}, "is a dict"), ("a\0b", "control characters"),
        ("a\x1b[31mb", "control characters"), ("a\x85b", "control characters"), ("a\x7f", "control characters"),
        ("\ud800", "halves of characters"), ("gnp.\u202egpj", "turns the direction"), ("a\u2066b", "turns the direction"),
        ("a\u2028b", "turns the direction"), ("x" * 2001, "has 2,001 characters"),
    ],
    ids=range(12),
)  # fmt: skip
def test_what_is_no_plain_text(value, said):
    with pytest.raises(ValueError, match=said) as found:
        text(value, "prompt")
    str(found.value).encode()  # a message that can be sent


def test_texts_of_all_languages_stay():
    for said in ("ein Boot", "一只猫", "قارب أحمر", "סירה", "a\u200fb", "👩‍🚀", "é", "line\nline\tend"):
        assert text(f" {said} ", "prompt") == said
    assert text(None, "prompt") == ""


def test_names_of_a_list():
    allowed = ["a", "b"]
    assert choice("a", "x", allowed) == "a"
    assert several(["b", "a"], "x", allowed) == ["b", "a"]
    assert several(None, "x", allowed) == []
    for value in ("c", None, 1, ["a"], {"a": 1}, "a\0", True):
        with pytest.raises(ValueError, match=r"x is .*; allowed: a, b"):
            choice(value, "x", allowed)
    for value in ("a", {"a": 1}, ["c"], [["a"]], ["a", "a"], ["a", "b", "a"], ["a"] * 10**6, 3):
        with pytest.raises(ValueError, match="x is"):
            several(value, "x", allowed)


def test_intervals():
    assert interval([-1, 2.5], "x", -4, 4) == (-1, 2.5)
    for value in (
        None,
        [],
        [1],
        [1, 2, 3],
        [2, 1],
        ["1", 2],
        [NAN, 1],
        [0, INF],
        [-5, 0],
        {"0": 1, "1": 2},
        [True, 2],
        "12",
    ):
        with pytest.raises(ValueError, match="x "):
            interval(value, "x", -4, 4)
