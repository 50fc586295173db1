"""Soft access to a set of slots: score every slot against a query, and read the mean of all, weighted by the scores.

Every slot takes part in every read, so the gradient is exact and needs no estimator. Pure functions; the axes are `n` slots,
`k` units of the score and `d` values in a slot. Leading axes `*r` read the same slots again.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


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
