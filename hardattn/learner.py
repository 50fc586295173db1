"""The learner: a batch in, one step of gradient descent, a few numbers out. The only `.backward()` of the project is here.

Device, precision and several processes are lightning-fabric's work.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from hardattn.checks import above_zero, at_least_one, at_least_zero
from hardattn.contract import Batch
from hardattn.parallel import global_mean

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class LearnerConfig:
    """How the parameters move."""

    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam, or plain gradient descent (the RAM paper: with momentum 0.9; memory networks: without)."""
    momentum: float = 0.9
    """Of plain gradient descent."""
    learning_rate: float = 1e-3
    """At the start; see `schedule`."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How the learning rate goes from its start to (almost) zero at the last step."""
    clip: float = 1.0
    """Largest norm of the gradient. Parts of an agent that share no gradient are clipped apart."""
    weight_decay: float = 0.0
    """Decoupled decay of all matrices (Loshchilov and Hutter 2019), as a part of the learning rate."""
    epochs: int = 1
    """Updates with every batch that was acted on. With more than one the policy's loss is PPO's (Schulman et al. 2017)."""

    def __post_init__(self) -> None:
        above_zero(self, "learning_rate", "clip")
        if self.optimizer not in ("adam", "sgd"):
            raise ValueError(f"optimizer must be adam or sgd, found {self.optimizer!r}")
        if self.schedule not in ("constant", "linear", "cosine"):
            raise ValueError(f"schedule must be constant, linear or cosine, found {self.schedule!r}")
        at_least_zero(self, "weight_decay", "momentum")
        at_least_one(self, "epochs")

    def rate_at(self, step: int, steps: int) -> float:
        """The learning rate of step `step` (from 0) of `steps`."""
        progress = step / steps
        factor = {"constant": 1.0, "linear": 1.0 - progress, "cosine": 0.5 * (1.0 + math.cos(math.pi * progress))}[
            self.schedule
        ]
        return self.learning_rate * factor


class Learner:
    """An agent that is being trained.

    Args:
        agent: a module whose forward takes a `Batch` and returns a `Loss`. It may name children that share no gradient with the rest in
            `separate`; without that, all parameters are clipped together. One that changes during training (such as a softmax that is put back) has
            `at(progress)`, which is told before every update which part of the training is behind, from 0 to less than 1.
        config: how the parameters move.
        steps: of the whole training; the schedule ends there.
        fabric: device, precision and processes. Default: one process on the CPU.
    """

    def __init__(self, agent: nn.Module, config: LearnerConfig, steps: int, fabric: "Fabric | None" = None) -> None:
        if fabric is None:
            from lightning_fabric import Fabric  # takes a second: not before the command line has been read

            fabric = Fabric(accelerator="cpu", devices=1)
        self.agent, self.config, self.steps, self.fabric = agent, config, steps, fabric
        groups: list[dict[str, Any]] = [{"params": list(agent.parameters()), "weight_decay": 0.0}]
        if config.weight_decay:
            matrices, vectors = ([p for p in agent.parameters() if (p.ndim > 1) == wide] for wide in (True, False))
            groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer: torch.optim.Optimizer
        if config.optimizer == "adam":
            self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
        else:
            self.optimizer = torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, fused=True)
        self._module, self._optimizer = fabric.setup(agent, self.optimizer)
        names = getattr(agent, "separate", ())
        self._parts = {name: list(child.parameters()) for name in names if (child := getattr(agent, name)) is not None}
        apart = {id(p) for part in self._parts.values() for p in part}
        self._parts["rest"] = [p for p in agent.parameters() if id(p) not in apart]

    def update(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """One step. Returns the loss, its terms (means over all processes), and the norm of every part's gradient before clipping.

        Raises:
            FloatingPointError: if the loss or its gradient is not a number or infinite; the parameters are then as they were.
        """
        rate = self.config.rate_at(step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if hasattr(self.agent, "at"):
            self.agent.at(step / self.steps)  # type: ignore[operator]
        loss = self._module(self.fabric.to_device(batch))
        self._check("loss", loss.total, step)
        self._optimizer.zero_grad()
        self.fabric.backward(loss.total)
        terms = {"loss": loss.total.detach(), **loss.terms}
        norms = self._clip()
        self._check("gradient", sum(norms.values()), step)
        self._optimizer.step()
        return terms | norms

    def _clip(self) -> dict[str, Tensor]:
        """Scale the gradient of every part down to the largest norm allowed; returns the norms before. All tensors go in one call each time."""
        parts = [[p.grad for p in part if p.grad is not None] for part in self._parts.values()]
        gradients = [g for part in parts for g in part]
        each = torch.stack(torch._foreach_norm(gradients)).split([len(part) for part in parts])
        norms = torch.stack([of_part.norm() for of_part in each])
        factors = (self.config.clip / (norms + 1e-6)).clamp(max=1.0).tolist()
        torch._foreach_mul_(gradients, [factor for factor, part in zip(factors, parts) for _ in part])
        return {f"gradient/{name}": norm for name, norm in zip(self._parts, norms)}

    @staticmethod
    def _check(name: str, value: Any, step: int) -> None:
        if not torch.isfinite(value):
            raise FloatingPointError(
                f"the {name} of step {step + 1} is {value.item()}: try a smaller --learning-rate or --clip. "
                "The last checkpoint is from before this step"
            )

    def gradient(self, batch: Batch, part: str) -> Tensor:
        """The gradient of the loss in the parameters of `part`, as one vector, without a step."""
        training = self.agent.training
        self.agent.eval()  # nothing that is learned on the way, such as moments, is to be learned from this
        loss = self.agent(self.fabric.to_device(batch)).total
        self.agent.train(training)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, self._parts[part])])

    def state(self) -> dict[str, Any]:
        """What resuming needs besides the agent's weights."""
        return self.optimizer.state_dict()

    def load(self, weights: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Continue from weights and `state`."""
        self.agent.load_state_dict(weights)
        self.optimizer.load_state_dict(state)


class Replaying:
    """A learner that acts once and learns from it several times (PPO; Schulman et al. 2017, Algorithm 1). For `hardattn.training.fit`.

    Args:
        learner: of an agent with `act`, which turns a batch into one that can be learned from again.
        epochs: updates with each.
    """

    def __init__(self, learner: Learner, epochs: int) -> None:
        if epochs < 1:
            raise ValueError(f"epochs must be at least 1, found {epochs}")
        self.learner, self.epochs = learner, epochs

    def update(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Returns the terms of the first update, which is made with the policy that acted."""
        agent: Any = self.learner.agent
        acted = agent.act(self.learner.fabric.to_device(batch))
        first = self.learner.update(acted, step)
        for _ in range(self.epochs - 1):
            self.learner.update(acted, step)
        return first


def means(records: Iterable[dict[str, Tensor]]) -> dict[str, float]:
    """Means of logged terms over several steps and all processes."""
    gathered: dict[str, list[Tensor]] = {}
    for record in records:
        for name, value in record.items():
            gathered.setdefault(name, []).append(value)
    return {name: global_mean(torch.stack(values).float().mean()).item() for name, values in gathered.items()}
