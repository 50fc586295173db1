"""A bad setting is named, with what was expected and what was found."""

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest

from hardattn.checks import above_zero, at_least_one, at_least_zero, kinds, literals, way


@dataclass(frozen=True)
class Config:
    size: int = 1
    depth: int | None = None
    marked: bool = False
    part: float = 0.5


class Settings:
    kind: Literal["one", "two"]
    other: str

    def __init__(self, kind):
        self.kind, self.other = kind, "anything"


def test_literals_are_held_to_their_values():
    literals(Settings("two"))
    with pytest.raises(ValueError, match=r"^kind must be one of one, two; found 'three'$"):
        literals(Settings("three"))


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (at_least_one, (1, 7), (0, -1)),
        (above_zero, (1e-9, 3.0), (0.0, -1.0, math.nan, math.inf)),
        (at_least_zero, (0.0, 3.0), (-1e-9, math.nan, math.inf)),
    ],
)
def test_numbers_are_held_to_their_range(check, good, bad):
    for value in good:
        check(SimpleNamespace(size=value, other=-5), "size")
    for value in bad:
        with pytest.raises(ValueError, match=rf"^size must be .*found {value}$"):
            check(SimpleNamespace(good=1, size=value), "good", "size")


def test_the_usual_way_is_the_first_and_others_are_refused():
    assert way(None, ("mean", "random")) == "mean" and way("random", ("mean", "random")) == "random"
    for unknown in ("", "sideways"):
        with pytest.raises(ValueError, match=rf"^how must be one of mean, random; found '{unknown}'$"):
            way(unknown, ("mean", "random"))


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"size": 2.0}, "size must be a whole number, found 2.0"),
        ({"size": None}, "size must be a whole number, found None"),
        ({"size": True}, "size must be a whole number, found True"),
        ({"depth": "3"}, "depth must be a whole number, found '3'"),
        ({"marked": 1}, "marked must be True or False, found 1"),
    ],
)
def test_kinds(wrong, found):
    for right in ({}, {"depth": 3}, {"size": np.int64(4), "marked": True, "part": 1}):
        kinds(Config(**right))
    with pytest.raises(ValueError, match=found):
        kinds(Config(**wrong))
