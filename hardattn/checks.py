"""What configurations and agents check of what they are given, so that the same mistake is named in the same words everywhere."""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any, Literal, get_args, get_origin, get_type_hints


def at_least_one(config: Any, *names: str) -> None:
    """Raises ValueError, naming the first culprit, unless all these fields of `config` are at least 1."""
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be at least 1, found {getattr(config, name)}")


def above_zero(config: Any, *names: str) -> None:
    """Raises ValueError, naming the first culprit, unless all these fields of `config` are finite numbers above 0."""
    for name in names:
        value = getattr(config, name)
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be above 0 and finite, found {value}")


def at_least_zero(config: Any, *names: str) -> None:
    """Raises ValueError, naming the first culprit, unless all these fields of `config` are finite numbers of at least 0."""
    for name in names:
        value = getattr(config, name)
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be at least 0 and finite, found {value}")


def some_sizes(config: Any, name: str) -> None:
    """Makes a tuple of a field that may be a list (JSON gives lists back). Raises ValueError unless it names sizes, and all are at least 1."""
    found = tuple(getattr(config, name))
    object.__setattr__(config, name, found)
    if not found or min(found) < 1:
        raise ValueError(f"{name} must name at least one size of at least 1, found {found}")


def kinds(config: Any) -> None:
    """Raises ValueError, naming the first culprit, unless every field that is declared as a whole number (perhaps None) or as a bool is one."""
    for name, kind in get_type_hints(type(config)).items():
        value, allowed = getattr(config, name), get_args(kind) or (kind,)
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if int in allowed and not whole and not (value is None and type(None) in allowed):
            raise ValueError(f"{name} must be a whole number, found {value!r}")
        if kind is bool and not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False, found {value!r}")


def literals(config: Any) -> None:
    """Raises ValueError, naming the first culprit, unless every field that is declared as a `Literal` has one of its values."""
    for name, kind in get_type_hints(type(config)).items():
        if get_origin(kind) is Literal and getattr(config, name) not in get_args(kind):
            raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}; found {getattr(config, name)!r}")


def way(how: str | None, hows: Sequence[str]) -> str:
    """The way of answering that is asked for, the usual one (the first) if none is. Raises ValueError if there is no such way."""
    if how is None:
        return hows[0]
    if how not in hows:
        raise ValueError(f"how must be one of {', '.join(hows)}; found {how!r}")
    return how
