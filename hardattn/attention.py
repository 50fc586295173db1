"""Access to a set of slots: score every slot against a query, then read the mean of all, weighted by the scores, or one of them.

In a soft read every slot takes part, so the gradient is exact and needs no estimator; `choose` has the hard ways beside it. Pure functions; axes: `n` slots,
`k` units of the score and `d` values in a slot. Leading axes `*r` read the same slots again.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hardattn.estimators import gumbel_softmax, straight_through

Access = Literal["soft", "sampled", "straight-through", "gumbel", "argmax"]
"""How a memory is read, given how well every slot suits:

soft              the mean of all slots; exact gradient
sampled           one slot, drawn; the gradient needs the score function (`hardattn.estimators.score_function`) and the log-probability
straight-through  one slot, drawn; the gradient is that of the probabilities (biased)
gumbel            one slot, drawn; the gradient is that of a relaxation (biased)
argmax            the likeliest slot; no gradient
"""


def additive_score(
    keys: Float[Tensor, "*r b n k"], query: Float[Tensor, "*r b k"], v: Float[Tensor, " k"]
) -> Float[Tensor, "*r b n"]:
    """v . tanh(keys + query): how well every slot suits the query (Bahdanau, Cho and Bengio 2015, Appendix A.1.2).

    Args:
        keys: the slots, projected already (the paper's U h_j): it does not depend on the query, so it is computed once for all reads.
        query: what is looked for, projected already (the paper's W s_{i-1}).
        v: weights of the units.
    """
    return (keys + query.unsqueeze(-2)).tanh() @ v


def soft_read(
    scores: Float[Tensor, "*r b n"], values: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None = None
) -> tuple[Float[Tensor, "*r b d"], Float[Tensor, "*r b n"]]:
    """The mean of the slots under the softmax of the scores (Bahdanau et al. 2015, Equations 5 and 6; Xu et al. 2015, Equation 13).

    Args:
        scores: of every slot; a constant added to all changes nothing.
        values: the slots.
        mask: slots that exist. The others get weight 0 whatever their score; an example without any slot reads zeros.

    Returns:
        What was read, and the weights, which sum to one. Weights are never coarser than float32.
    """
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if mask is None:
        weights = scores.softmax(-1)
    else:
        # Not -inf, which would make an example without any slot not a number, and its gradient as well.
        weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1) * mask
    return torch.einsum("...bn,bnd->...bd", weights.to(values.dtype), values), weights


def choose(
    scores: Float[Tensor, "*r n"], access: Access, noise: Float[Tensor, "*r n"] | None = None
) -> tuple[Float[Tensor, "*r n"], Float[Tensor, "*r"]]:
    """Weights over the slots for a way of reading: read with `weights @ values`, whatever the way.

    Args:
        scores: logits of the slots; -inf (or the smallest number) where there is none.
        access: see `Access`.
        noise: uniform in (0, 1), for the ways that draw.

    Returns:
        The weights, which sum to one (a one-hot choice for every way but "soft"), and the log-probability of the choice, whose gradient is
        the score function; 0 for "soft".

    Raises:
        ValueError: if a way that draws is given no noise.
    """
    if access == "soft":
        return scores.softmax(-1), scores.new_zeros(scores.shape[:-1])
    if access == "argmax":
        place = scores.argmax(-1, keepdim=True)
        weights = torch.zeros_like(scores).scatter_(-1, place, 1.0)
    elif noise is None:
        raise ValueError(
            f"access {access!r} draws a slot: expected noise of the scores' shape {tuple(scores.shape)}, found none"
        )
    elif access == "gumbel":
        weights = gumbel_softmax(scores, noise)
    else:
        weights = straight_through(scores, noise)
        weights = weights.detach() if access == "sampled" else weights
    place = weights.detach().argmax(-1, keepdim=True)
    return weights, scores.log_softmax(-1).gather(-1, place).squeeze(-1)
