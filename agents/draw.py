"""A glimpse with a gradient: the reader of DRAW (Gregor, Danihelka, Graves, Rezende and Wierstra 2015, ICML) in the Recurrent Attention Model.

A grid of filters is laid over the image, and its place and its width are outputs of the network like any other: what was read can be
differentiated in where it was read, so back-propagation teaches the gaze and nothing is sampled (Section 3.2, "Selective attention
model"). Around it stands RAM (Mnih et al. 2014, Section 3): what and where are encoded apart and joined, a recurrent core remembers, a
classifier answers after the last glimpse. With `sensor="bilinear"` the filters are boxes, never narrower than a pixel, which for small
windows is the spatial transformer (Jaderberg, Simonyan, Zisserman and Kavukcuoglu 2015, NIPS, Equation 5) with a window that moves and zooms.

With `gradient="reinforce"` the same network draws its centres from a Gaussian and learns them as RAM does, by REINFORCE with a baseline,
while the rest of the window keeps its gradient. With "reparameterised" it draws them, too, as the mean and noise, and the gradient goes through
the sensor (Kingma and Welling 2014, ICLR, Section 2.4): two estimates of one gradient, side by side.

Where this differs from the papers: nothing is generated, only classified. A stride of 1 (`log_stride` 0) lays the window of side * stride
pixels over all of the image's longer side, where Equation 24 has the middles of the outermost filters reach its ends. Sigma is
learned as a multiple of the stride, so that zooming in sharpens what is seen; Equation 21 learns it in pixels. The network starts with
windows that are nearly the whole image, at sigma = stride / 2. The environment's first gaze and its retina are not used: the state
before the first glimpse is zero, so the first window is the same for every image. The spatial transformer's affine map is reduced to a
shift and a zoom. The options that draw the centre are not the papers'.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from hardattn.checks import above_zero, at_least_one, literals, way
from hardattn.contract import Answer, Batch, GlimpseSpec, Loss, Trace
from hardattn.estimators import baseline_loss, batch_mean, gaussian_entropy, gaussian_log_prob, score_function
from hardattn.filterbank import box_bank, gaussian_bank, read
from hardattn.moments import Moments
from hardattn.noise import fork, normal, uniform

_SMALL = 0.1
"""What the layers that choose the window are multiplied by at the start."""
_LEEWAY = 2.0
"""Stride, intensity and blur of a bounded window are at most e^2 = 7.4 times what they are with a lens of 0, and at least a part of 7.4."""


@dataclass(frozen=True)
class DrawConfig:
    """The model and how its gaze is trained."""

    sensor: Literal["filterbank", "bilinear"] = "filterbank"
    """Gaussian filters (DRAW), or boxes that are bilinear sampling where the window is small (the spatial transformer)."""
    core: Literal["relu", "lstm"] = "lstm"
    """Recurrent core: one rectified layer or an LSTM."""
    hidden: int = 256
    """Units of the core and of the joint glimpse encoding."""
    features: int = 128
    """Units that encode what is seen, and as many that encode where."""
    standardised: bool = False
    """Whether what is read is brought to mean 0 and variance 1, number by number, by the readings of training so far (see `hardattn.moments`)."""
    bounded: bool = False
    """Whether the centre stays on the image, and stride, blur and intensity within a factor of 7.4 of where they begin (by tanh). A centre far beside the
    image reads nothing, and has no gradient to come back by."""
    gradient: Literal["pathwise", "reparameterised", "reinforce"] = "pathwise"
    """How the centre of the window is learned: through the sensor, also of centres that were drawn, or from the reward of centres that were drawn."""
    std: float = 0.15
    """Standard deviation of centres that are drawn in both directions, as a part of half of the image."""
    baseline: Literal["learned", "batch-mean"] = "learned"
    """What is subtracted from the reward ("reinforce" only)."""
    reward: Literal["correct", "log-likelihood"] = "correct"
    """1 for a right answer, or the log-probability of the right answer ("reinforce" only)."""
    supervise: Literal["end", "every"] = "end"
    """Cross-entropy after the last glimpse, or the mean over all glimpses."""
    limit: float | None = None
    """Largest norm of the gradient of one example's loss in the centre of one glimpse, and in its lens; a longer one is scaled down. A window hangs on the
    one before it, so on large images the gradient of a few examples explodes from glimpse to glimpse, and of a sum that is clipped nothing is left but
    those. Graves 2013 (arXiv:1308.0850, Section 2.1) limits the gradient in the inputs of an LSTM likewise. None: no limit."""

    def __post_init__(self) -> None:
        at_least_one(self, "hidden", "features")
        above_zero(self, "std", *(("limit",) if self.limit is not None else ()))
        literals(self)

    def build(self, spec: GlimpseSpec) -> "Draw":
        return Draw(spec, self)


class Reading(NamedTuple):
    """One way of reading every image, time first. `gaze` is the centre in units of half the image: (-1, -1) is its upper left corner."""

    hidden: Float[Tensor, "t b d"]
    seen: Float[Tensor, "t b p"]
    """As the sensor gave it."""
    mean: Float[Tensor, "t b 2"]
    """The centre that the network chose."""
    gaze: Float[Tensor, "t b 2"]
    """The centre that was read: the mean, or a draw, or a control's."""
    stride: Float[Tensor, "t b"]
    """Pixels between neighbouring filters."""


class Draw(nn.Module):
    """See the module. Letters are the paper's: g a glimpse's encoding (RAM), h the state, gamma the intensity (DRAW)."""

    hows = ("mean", "random", "centre")

    def __init__(self, spec: GlimpseSpec, config: DrawConfig) -> None:
        super().__init__()
        self.spec, self.config = spec, config
        shape = 3 if config.sensor == "filterbank" else 2
        self.what = nn.Linear(spec.channels * spec.side**2, config.features)
        self.seen = Moments(self.what.in_features) if config.standardised else None
        self.where = nn.Linear(2 + shape, config.features)
        self.join = nn.Linear(2 * config.features, config.hidden)
        self.core = (_relu_cell if config.core == "relu" else nn.LSTMCell)(config.hidden, config.hidden)
        self.classifier = nn.Linear(config.hidden, spec.classes)
        self.locator = nn.Linear(config.hidden, 2)
        self.lens = nn.Linear(config.hidden, shape)
        """log stride, log gamma and, for Gaussians, log (2 sigma / stride)."""
        learns_baseline = config.gradient == "reinforce" and config.baseline == "learned"
        self.baseline = nn.Linear(config.hidden, 1) if learns_baseline else None
        with torch.no_grad():
            for layer in (self.locator, self.lens):
                layer.weight *= _SMALL
                layer.bias.zero_()

    @property
    def separate(self) -> tuple[str, ...]:
        """Children that share no gradient with the rest: their gradients are clipped and reported on their own."""
        return ("locator", "baseline") if self.config.gradient == "reinforce" else ()

    def forward(self, batch: Batch) -> Loss:
        """`loss`; in training, what was read then counts for the moments, from the next batch on."""
        reading = self._reading(batch.question)
        loss = self._loss(reading, batch.target)
        if self.training and self.seen is not None:
            self.seen.learn(reading.seen)
        return loss

    def loss(self, batch: Batch) -> Loss:
        """Cross-entropy; with "reinforce" the hybrid loss of RAM, in which every centre, the first included, is a move."""
        return self._loss(self._reading(batch.question), batch.target)

    def _reading(self, question: Any) -> Reading:
        """As in training."""
        drawn = None
        if self.config.gradient != "pathwise":
            drawn = self.config.std * _per_step(normal(fork(question.key, "gaze"), 2 * self.spec.glimpses))
        return self.look_around(question.image, noise=drawn)

    def _loss(self, reading: Reading, target: Int[Tensor, " b"]) -> Loss:
        config = self.config
        logits = self.classifier(reading.hidden if config.supervise == "every" else reading.hidden[-1:])
        every = F.cross_entropy(logits.flatten(0, 1), target.repeat(len(logits)), reduction="none").unflatten(
            0, (-1, len(target))
        )
        nll, correct = every.mean(), (logits[-1].argmax(-1) == target).to(logits.dtype)
        terms = {"nll": nll, "error": 100 * (1 - correct.mean())}
        total = nll
        if config.gradient == "reinforce":
            reward = (correct if config.reward == "correct" else -every[-1]).detach()
            returns = reward.expand(self.spec.glimpses, -1)
            before = torch.cat([torch.zeros_like(reading.hidden[:1]), reading.hidden[:-1]]).detach()
            learned = self.baseline(before).squeeze(-1) if self.baseline is not None else None
            subtracted = learned if learned is not None else batch_mean(returns)
            log_prob = gaussian_log_prob(reading.gaze, reading.mean, config.std)
            reinforce = score_function(log_prob, returns, subtracted)
            total = total + reinforce
            terms |= {
                "reward": reward.mean(),
                "reinforce": reinforce,
                "entropy": -log_prob.mean(),  # of the centre in nats, as drawn
                "advantage": (returns - subtracted).square().mean().sqrt(),
            }
            if learned is not None:
                regression = baseline_loss(learned, returns)
                total = total + regression
                terms["baseline"] = regression
        return Loss(total, {name: value.detach() for name, value in terms.items()})

    @torch.no_grad()
    def answer(self, question: Any, how: str | None = None, seed: int = 0) -> Answer:
        """Read every image and name it.

        Args:
            question: with an `image` and a `key`.
            how: "mean" (as learned), or a control that keeps the learned zoom but not the centres: "random" (uniform over the image, after
                the first) or "centre" (the middle every time).
            seed: of the noise of "random".

        Returns:
            Log-probabilities [b, n], and a trace. Its gaze is (-1, -1) at the upper left corner of the image and (1, 1) at the lower right one;
            it may lie outside. `log_prob` and `entropy` are those of a policy and stay None where the gradient is pathwise.

        Raises:
            ValueError: if `how` is unknown.
        """
        config, glimpses, how = self.config, self.spec.glimpses, way(how, self.hows)
        places: list[Tensor | None] = [None] * glimpses
        if how == "centre":
            places = [torch.zeros_like(question.gaze)] * glimpses
        elif how == "random":
            draws = uniform(fork(question.key, f"answer {seed}"), 2 * (glimpses - 1))
            places = [None, *(2 * _per_step(draws) - 1)]
        reading = self.look_around(question.image, places=places)
        belief = self.classifier(reading.hidden).softmax(-1)
        policy: dict[str, Tensor] = {}
        if config.gradient == "reinforce":
            log_prob = gaussian_log_prob(reading.gaze[1:], reading.mean[1:], config.std).T
            policy = {"log_prob": log_prob, "entropy": torch.full_like(log_prob, gaussian_entropy(config.std, 2))}
        trace = Trace(
            gaze=reading.gaze.transpose(0, 1),
            belief=belief.transpose(0, 1),
            sensed=belief.new_full(belief.shape[1:2], glimpses * self.what.in_features),
            # A filter has an entry for every row or column, and every pixel goes into every glimpse.
            scores=belief.new_full(belief.shape[1:2], glimpses * self.spec.side * (self.spec.height + self.spec.width)),
            reads=belief.new_full(belief.shape[1:2], glimpses * self.spec.image_size),
            window=self.window(reading).transpose(0, 1),
            **policy,
        )
        return Answer(belief[-1].clamp(min=1e-12).log(), trace)

    def look_around(
        self,
        image: Float[Tensor, "b c h w"],
        *,
        noise: Float[Tensor, "t b 2"] | None = None,
        places: list[Tensor | None] | None = None,
    ) -> Reading:
        """T glimpses, unrolled with autograd.

        Args:
            image: what is read.
            noise: added to the centres. With "reinforce" these are then constants to the gradient, and the state is a constant to the policy.
            places: centres instead of those that the network chooses; None leaves it the choice.
        """
        dtype = self.what.weight.dtype
        image = image.to(dtype)  # mixed precision hands in a coarser one
        state: Any = image.new_zeros(len(image), self.config.hidden)
        h, steps, scored = state, [], noise is not None and self.config.gradient == "reinforce"
        if self.config.core == "lstm":
            state = (state, state)
        for t in range(self.spec.glimpses):
            mean = self._locate(h.detach() if scored else h)
            gaze = mean if noise is None else mean + noise[t]
            if scored:
                gaze = gaze.detach()
            if places is not None and (place := places[t]) is not None:
                gaze = place.to(dtype)
            lens = self.lens(h).to(dtype)
            if self.config.bounded:
                lens = _LEEWAY * (lens / _LEEWAY).tanh()
            if self.config.limit is not None:
                gaze, lens = (_limited(x, self.config.limit / len(image)) for x in (gaze, lens))
            what, stride = self._see(image, gaze, lens)
            shown = what if self.seen is None else self.seen(what)
            g = torch.cat([self.what(shown), self.where(torch.cat([gaze, lens], -1))], -1).relu()
            state = self.core(self.join(g).relu(), state)
            h = state[0] if self.config.core == "lstm" else state
            steps.append((h, what.detach(), mean, gaze, stride))
        return Reading(*(torch.stack(x) for x in zip(*steps)))

    def window(self, reading: Reading) -> Float[Tensor, "t b 4"]:
        """(left, top, width, height) in pixels of every window: side * stride pixels around the centre."""
        width = (self.spec.side * reading.stride)[..., None].expand_as(reading.gaze)
        half = torch.tensor([self.spec.width, self.spec.height], dtype=width.dtype, device=width.device) / 2
        return torch.cat([(1 + reading.gaze) * half - width / 2, width], -1)

    def _locate(self, h: Float[Tensor, "b d"]) -> Float[Tensor, "b 2"]:
        """The centre: (size + 1) / 2 * locator pixels from the middle (Equations 22 and 23), in units of half the image; bounded, at most half the image."""
        if self.config.bounded:
            return self.locator(h).to(self.what.weight.dtype).tanh()
        size = h.new_tensor([self.spec.width, self.spec.height], dtype=self.what.weight.dtype)
        return self.locator(h).to(size.dtype) * (1 + 1 / size)

    def _see(
        self, image: Float[Tensor, "b c h w"], gaze: Float[Tensor, "b 2"], lens: Float[Tensor, "b l"]
    ) -> tuple[Float[Tensor, "b p"], Float[Tensor, " b"]]:
        """What is read, times its intensity (Equation 27), and the stride in pixels (Equation 24)."""
        side, (h, w) = self.spec.side, image.shape[-2:]
        stride = lens[:, 0].exp() * (max(h, w) / side)
        x, y = ((1 + gaze) / 2).unbind(-1)
        sigma = stride * lens[:, 2].exp() / 2 if self.config.sensor == "filterbank" else None
        if h == w:  # both banks in one go
            rows, columns = _bank(torch.stack([y * h, x * w]), stride, sigma, side, h)
        else:
            rows, columns = _bank(y * h, stride, sigma, side, h), _bank(x * w, stride, sigma, side, w)
        return read(image, rows, columns).flatten(1) * lens[:, 1:2].exp(), stride


def _limited(x: Float[Tensor, "b n"], limit: float) -> Float[Tensor, "b n"]:
    """x, whose gradient has a norm of at most `limit` in every row."""
    if x.requires_grad:
        x.register_hook(lambda g: g * (limit / g.norm(dim=1, keepdim=True).clamp(min=limit)))
    return x


def _bank(at: Tensor, stride: Tensor, sigma: Tensor | None, side: int, size: int) -> Float[Tensor, "*r b g n"]:
    """Gaussians, or boxes if they have no sigma."""
    stride = stride.expand_as(at)
    if sigma is None:
        return box_bank(at, stride, side=side, size=size)
    return gaussian_bank(at, stride, sigma.expand_as(at), side=side, size=size)


def _relu_cell(inputs: int, hidden: int) -> nn.RNNCell:
    """h_t = relu(W_h h_{t-1} + W_g g_t + b) (Mnih et al. 2014, Section 4.1)."""
    return nn.RNNCell(inputs, hidden, nonlinearity="relu")


def _per_step(noise: Float[Tensor, "b n"]) -> Float[Tensor, "t b 2"]:
    """An example's numbers as pairs, one for every step; they depend on its own key alone."""
    return noise.unflatten(1, (-1, 2)).transpose(0, 1)
