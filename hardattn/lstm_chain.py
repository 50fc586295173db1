"""The way back through the gates of an LSTM, by hand: what `hardattn.chain` and `hardattn.memory_chain` have in common."""

import torch
from jaxtyping import Float
from torch import Tensor


class LSTMBack:
    """From the gradient in an LSTM's outputs to that in what was added up for its gates, step by step, the last step first.

    What does not depend on the step after it is computed for all steps at once.

    Args:
        gates: input, forget, new cell and output, squashed.
        cells: before the first step, and after every one.
        squashed: tanh of the cells after every step.
    """

    def __init__(
        self, gates: Float[Tensor, "t b g"], cells: Float[Tensor, "states b d"], squashed: Float[Tensor, "t b d"]
    ) -> None:
        i, f, new, o = gates.chunk(4, -1)
        sigmoid, tanh = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward
        # What the gates make of the gradient in the cell (the output gate: of that in the output), and the cell of that in the output.
        slopes = torch.stack([sigmoid(new, i), sigmoid(cells[:-1], f), tanh(i, new), sigmoid(squashed, o)], 2)
        self._slopes, self._slopes_o, self._through = slopes.unbind(), slopes[:, :, 3].unbind(), tanh(o, squashed).unbind()
        self._forget = f.unbind()
        each = torch.empty_like(slopes)
        self._each, self._each_o = each.unbind(), each[:, :, 3].unbind()
        self.d_sums: Float[Tensor, "t b g"] = each.flatten(2)
        """In what was added up; filled step by step."""
        self.d_cell: Float[Tensor, "b d"] = torch.zeros_like(cells[0])
        """In the cell before the last step taken."""

    def step(self, t: int, d_output: Float[Tensor, "b d"]) -> None:
        """Take step t: `d_sums[t]` is then known."""
        self.d_cell.addcmul_(d_output, self._through[t])
        torch.mul(self._slopes[t], self.d_cell[:, None], out=self._each[t])
        torch.mul(self._slopes_o[t], d_output, out=self._each_o[t])
        self.d_cell.mul_(self._forget[t])
