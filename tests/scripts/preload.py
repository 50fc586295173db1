"""What takes seconds to import, imported once for all processes that the tests start."""

import lightning_fabric  # noqa: F401
import matplotlib.figure  # noqa: F401
import scipy.stats  # noqa: F401
import sklearn.datasets  # noqa: F401
import sklearn.model_selection  # noqa: F401
import torch
import torch.utils.tensorboard  # noqa: F401

import scripts.evaluate  # noqa: F401
import scripts.pictures  # noqa: F401
import scripts.train  # noqa: F401

torch.set_num_threads(1)
