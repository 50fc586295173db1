"""Settings of all tests. Nothing of the project is imported here: jaxtyping must first hook into its imports."""

import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)

settings.register_profile("repeatable", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", parent=settings.get_profile("repeatable"), derandomize=False, max_examples=3000)
settings.load_profile("repeatable")
