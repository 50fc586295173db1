"""What there is to attend to. Importing this package registers the Gymnasium environments (docs/environments.md)."""

from typing import Any

import gymnasium as gym

# The time limit is the core's: a TimeLimit wrapper would count the same steps a second time.
_IDS: dict[str, dict[str, Any]] = {
    "Glimpse": {"view": "dict"},
    "GlimpseBox": {"view": "box"},
    "GlimpseMultiDiscrete": {"view": "multidiscrete"},
    "GlimpseDiscrete": {"view": "discrete", "early_answer": True},
}
for _name, _kwargs in _IDS.items():
    gym.register(
        f"hardattn/{_name}-v0",
        entry_point="envs.single:GlimpseEnv",
        vector_entry_point="envs.vector:GlimpseVectorEnv",
        kwargs=_kwargs,
    )

_CATCH: dict[str, dict[str, Any]] = {
    "Catch": {"view": "dict"},
    "CatchMultiDiscrete": {"view": "multidiscrete"},
    "CatchDiscrete": {"view": "discrete"},
    "CatchFull": {"view": "paddle", "sight": "full"},
}
for _name, _kwargs in _CATCH.items():
    gym.register(
        f"hardattn/{_name}-v0",
        entry_point="envs.catch:CatchEnv",
        vector_entry_point="envs.catch:CatchVectorEnv",
        kwargs=_kwargs,
    )

# Mean returns that count as solved: OpenAI Gym's own, and the like for the fixed tasks.
_TAPES = {
    "Copy": 25.0,
    "DuplicatedInput": 9.0,
    "RepeatCopy": 75.0,
    "Reverse": 25.0,
    "ReversedAddition": 25.0,
    "ReversedAddition3": 25.0,
    "CopyFixed": 25.0,
    "DuplicatedInputFixed": 25.0,
    "RepeatCopyFixed": 60.0,
    "ReverseFixed": 25.0,
    "ReversedAdditionFixed": 25.0,
    "ReversedAddition3Fixed": 25.0,
}
for _name, _threshold in _TAPES.items():
    for _suffix, _view in (("", "tuple"), ("MultiDiscrete", "multidiscrete"), ("Discrete", "discrete")):
        gym.register(
            f"hardattn/{_name}{_suffix}-v0",
            entry_point="envs.tapes:TapeEnv",
            vector_entry_point="envs.tapes:TapeVectorEnv",
            reward_threshold=_threshold,
            kwargs={"exercise": _name, "view": _view},
        )

for _name in ("Copy", "DuplicatedInput", "Reverse", "RepeatCopy", "ForwardReverse"):
    for _suffix, _view in (("", "dict"), ("MultiDiscrete", "multidiscrete")):
        gym.register(
            f"hardattn/RLNTM{_name}{_suffix}-v0",
            entry_point="envs.tapes:ThreeTapesEnv",
            vector_entry_point="envs.tapes:ThreeTapesVectorEnv",
            kwargs={"task": _name, "view": _view},
        )
