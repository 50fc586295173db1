"""What takes seconds to import, imported once for all processes that the tests start."""

import lightning_fabric  # noqa: F401
import matplotlib.figure  # noqa: F401
import scipy.stats  # noqa: F401
import sklearn.datasets
import sklearn.model_selection  # noqa: F401
import torch
import torch.utils.tensorboard

import envs.data
import scripts.attention_cost
import scripts.compare
import scripts.evaluate
import scripts.pictures
import scripts.train  # noqa: F401

envs.data.digits()
torch.set_num_threads(1)
