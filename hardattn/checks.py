"""What configurations check of themselves, so that the same mistake is named in the same words everywhere."""

import math
from typing import Any


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
