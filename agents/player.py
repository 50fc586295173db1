"""A recurrent player of games whose reward is all it gets (Mnih, Heess, Graves and Kavukcuoglu 2014, NIPS, Sections 3 and 4.2).

At every step an LSTM is given what is seen, and from its state come the parameters of a policy over whole moves: where to look next, and what to
do, drawn together. There is no answer to learn from: REINFORCE with a baseline trains everything, the encoder included, through all steps of
the episode. The same rollout serves PPO: an acted batch is a question too, and may be learned from several times.

Where this differs from the paper: what and where are encoded by one layer (an observation holds its own gaze). Discount, the generalised advantage, a
baseline that shapes the state and an entropy bonus are options.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hardattn.checks import above_zero, at_least_one, at_least_zero, literals, way
from hardattn.contract import Answer, Batch, Loss, Played, PlaySpec, Trace
from hardattn.estimators import Expected, baseline_loss, baseline_of, clipped_surrogate, generalised_advantage
from hardattn.moments import Moments
from hardattn.noise import fork, uniform
from hardattn.policies import Choice, GaussianGaze, Joint, Policy
from hardattn.recurrent import lstm
from hardattn.rollout import Episodes, play


@dataclass(frozen=True)
class PlayerConfig:
    """The model and its training signal."""

    hidden: int = 256
    """Units of the LSTM."""
    features: int = 256
    """Units that encode what is seen."""
    gaze: Literal["learned", "random", "centre"] = "learned"
    """Who moves the eye: the policy, or a control that learns to play and not to look."""
    std: float = 0.15
    """Standard deviation of the gaze in both directions, as a part of the reach."""
    baseline: Literal["learned", "constant", "batch-mean", "leave-one-out", "self-critical", "none"] = "learned"
    """What is subtracted from the return; see `hardattn.estimators.Baseline`."""
    shared: bool = False
    """Whether the learned baseline shapes the state, too. (In the paper's classifiers it does not; a player whose reward is late sees little else.)"""
    rollouts: int = 1
    """Ways in which every episode of a batch is played; for the baseline leave-one-out."""
    discount: float = 1.0
    """Of a reward per step."""
    decay: float = 1.0
    """Lambda of the generalised advantage, with the learned baseline: 1 for REINFORCE, less for less variance."""
    entropy: float = 0.0
    """Weight of the policy's entropy in the loss, so that it does not settle too early."""
    standardised: bool = False
    """Whether what is seen is brought to mean 0 and variance 1, number by number, by what was seen in training so far. A pixel that is nearly always dark
    is else drowned by the biases."""

    def __post_init__(self) -> None:
        literals(self)
        at_least_one(self, "hidden", "features", "rollouts")
        above_zero(self, "std")
        at_least_zero(self, "entropy")
        for name in ("discount", "decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, found {getattr(self, name)}")
        if self.baseline == "leave-one-out" and self.rollouts < 2:
            raise ValueError(
                f"baseline leave-one-out compares rollouts of one episode: it needs rollouts >= 2, found {self.rollouts}"
            )

    def build(self, spec: PlaySpec) -> "Player":
        return Player(spec, self)


class Replay(NamedTuple):
    """Episodes that were played before, as a question: their loss is taken as often as one likes, while the policy moves on (PPO)."""

    episodes: Episodes
    shown: Float[Tensor, "states b o"]
    """What was seen, as the network was given it."""
    log_prob: Float[Tensor, "t b"]
    """Under the policy that acted."""
    advantage: Float[Tensor, "t b"]
    returns: Float[Tensor, "t b"]


class Player(nn.Module):
    """See the module."""

    def __init__(self, spec: PlaySpec, config: PlayerConfig) -> None:
        super().__init__()
        self.spec, self.config = spec, config
        gaze: tuple[Policy, ...] = (GaussianGaze(config.std),) if spec.gaze and config.gaze == "learned" else ()
        self.policy = Joint((*gaze, *(Choice(count) for count in spec.choices)))
        self.encoder = nn.Linear(spec.seen, config.features)
        self.core = nn.LSTM(config.features, config.hidden)
        self.actor = nn.Linear(config.hidden, self.policy.parameters)
        self.baseline: nn.Module | None = nn.Linear(config.hidden, 1) if config.baseline == "learned" else None
        if config.baseline == "constant":
            self.baseline = Expected(1)
        self.seen: Moments | None = Moments(spec.seen) if config.standardised else None
        with torch.no_grad():  # the first policy is nearly uniform, its gaze nearly in the middle
            self.actor.weight *= 0.1
            self.actor.bias.zero_()

    @property
    def hows(self) -> tuple[str, ...]:
        """Without a policy for the gaze there is no other gaze to compare with."""
        learned = self.spec.gaze and self.config.gaze == "learned"
        return ("mean", "sampled", "random", "centre") if learned else ("mean", "sampled")

    @property
    def separate(self) -> tuple[str, ...]:
        """Children that share no gradient with the rest."""
        return () if self.config.shared else ("baseline",)

    def forward(self, batch: Batch) -> Loss:
        """`loss`; in training, what was seen then counts for the moments, from the next batch on."""
        batch = batch if isinstance(batch.question, Replay) else self.act(batch)
        if self.training and self.seen is not None:
            episodes = batch.question.episodes  # an update counts as often as it is made
            self.seen.learn(episodes.seen[:-1], episodes.alive)
        return self.loss(batch)

    def loss(self, batch: Batch) -> Loss:
        """REINFORCE on episodes that are played for it, or PPO's loss on some that were (Schulman et al. 2017, Equation 9)."""
        played = batch.question if isinstance(batch.question, Replay) else self.act(batch).question
        episodes, alive = played.episodes, played.episodes.alive.float()
        hidden = self._read(played.shown[:-1])
        parameters = self.actor(hidden)
        log_prob = self.policy.log_prob(self._chosen(episodes.action), parameters) * alive
        # Where the policy is still the one that acted, this is REINFORCE.
        reinforce = clipped_surrogate(log_prob, played.log_prob, played.advantage * alive)
        entropy = (self.policy.entropy(parameters) * alive).sum(0).mean()
        total = reinforce - self.config.entropy * entropy
        terms = {
            "return": episodes.reward.sum(0).mean(),
            "steps": alive.sum(0).mean(),
            "reinforce": reinforce,
            "entropy": entropy / alive.sum(0).mean(),
            "advantage": ((played.advantage * alive).square().sum() / alive.sum()).sqrt(),
        }
        if self.baseline is not None:
            learned = self.baseline(hidden if self.config.shared else hidden.detach()).squeeze(-1)
            terms["baseline"] = baseline_loss(learned * alive, played.returns * alive)
            total = total + terms["baseline"]
        return Loss(total, {name: value.detach() for name, value in terms.items()})

    @torch.no_grad()
    def act(self, batch: Batch) -> Batch:
        """Play, and remember what was seen, done and earned: a batch that can be learned from more than once."""
        config, game = self.config, batch.question
        key = torch.cat([fork(game.key, f"rollout {i}") for i in range(config.rollouts)])
        if config.rollouts > 1:
            game = game._replace(key=game.key.repeat(config.rollouts))
        episodes = self.play(game, "sampled", key)
        shown = self._looked_at(episodes.seen)
        hidden = self._read(shown)
        if self.baseline is not None:
            value = self.baseline(hidden).squeeze(-1)
            advantage = self._advantage(episodes, value)
            returns = advantage + value[:-1]
        else:
            returns = self._advantage(episodes, hidden.new_zeros(hidden.shape[:-1]))
            greedy = None
            if config.baseline == "self-critical":
                best = self.play(game, "mean", key)
                best_returns = self._advantage(best, hidden.new_zeros(len(best.reward) + 1, len(key)))
                greedy = best_returns[0].expand(len(returns), -1)
            each = returns.unflatten(1, (config.rollouts, -1))
            kind = config.baseline if config.baseline != "self-critical" else "none"
            # Other processes may have longer episodes: all speak of the same steps.
            subtracted = baseline_of(kind, F.pad(each, (0, 0, 0, 0, 0, game.limit - len(each))))
            subtracted = subtracted[: len(each)] if isinstance(subtracted, Tensor) else subtracted
            advantage = (each - subtracted).flatten(1) - (0.0 if greedy is None else greedy)
        log_prob = self.policy.log_prob(self._chosen(episodes.action), self.actor(hidden[:-1])) * episodes.alive
        return Batch(Replay(episodes, shown, log_prob, advantage, returns), batch.target)

    @torch.no_grad()
    def answer(self, question: Played, how: str | None = None, seed: int = 0) -> Answer:
        """Play every episode.

        Args:
            question: the game.
            how: "mean" (the likeliest move, the usual way), "sampled" (one drawn from the policy), or a control that plays as learned and looks
                elsewhere: "random" (uniform) or "centre" (the middle every time).
            seed: of the draws.

        Returns:
            The returns [b], and a trace: `gaze` [b, t, 2] if there is one, in the order in which it was used, `moves` [b, t, a] and `rewards` [b, t].

        Raises:
            ValueError: if `how` is unknown.
        """
        how = way(how, self.hows)
        episodes = self.play(question, how, fork(question.key, f"answer {seed}"))
        gaze = episodes.action[..., :2].clamp(-1, 1).transpose(0, 1) if self.spec.gaze else None
        sensed = episodes.alive.sum(0).float() * self.spec.seen
        trace = Trace(gaze=gaze, sensed=sensed, moves=episodes.action.transpose(0, 1), rewards=episodes.reward.transpose(0, 1))
        return Answer(episodes.reward.sum(0), trace)

    def play(self, game: Played, how: str, key: Tensor) -> Episodes:
        """Episodes played in one of the `hows`, with noise of `key`."""
        noise = self.policy.noise(key, game.limit).transpose(0, 1) if how == "sampled" else None
        elsewhere = how if how in ("random", "centre") else self.config.gaze
        places = None
        if self.spec.gaze and elsewhere == "random":
            places = 2 * uniform(fork(key, "gaze"), 2 * game.limit).unflatten(1, (-1, 2)).transpose(0, 1) - 1
        elif self.spec.gaze and elsewhere == "centre":
            places = torch.zeros(game.limit, len(key), 2, device=key.device)
        state: Any = None

        def act(i: int, seen: Float[Tensor, "b o"]) -> Float[Tensor, "b a"]:
            nonlocal state
            h, state = lstm(self.core, self.encoder(self._looked_at(seen))[None].relu(), state)
            parameters = self.actor(h[0])
            if how == "sampled":
                assert noise is not None
                action = self.policy.draw(parameters, noise[i])
            else:
                action = self.policy.likeliest(parameters)
            if places is not None:
                own = 2 if self.config.gaze == "learned" else 0  # the policy's own gaze is not asked
                action = torch.cat([places[i], action[:, own:]], -1)
            return action

        return play(game, act)

    def _advantage(self, episodes: Episodes, value: Float[Tensor, "states b"]) -> Float[Tensor, "t b"]:
        c = self.config
        decay = c.decay if c.baseline == "learned" else 1.0  # without a value it would be a second discount
        return generalised_advantage(
            episodes.reward, value, episodes.terminated, episodes.over, discount=c.discount, decay=decay
        )

    def _looked_at(self, seen: Float[Tensor, "*r o"]) -> Float[Tensor, "*r o"]:
        seen = seen.to(self.encoder.weight.dtype)
        return seen if self.seen is None else self.seen(seen).clamp(-10, 10)

    def _read(self, seen: Float[Tensor, "t b o"]) -> Float[Tensor, "t b d"]:
        return lstm(self.core, self.encoder(seen).relu())[0]

    def _chosen(self, action: Float[Tensor, "t b a"]) -> Float[Tensor, "t b drawn"]:
        """The part of an action that the policy drew."""
        return action[..., action.shape[-1] - self.policy.actions :]
