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
