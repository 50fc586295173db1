"""The inner loops of `hardattn.heads`, which says what the arguments mean: forward, and backward for a gradient in what came out.

Reductions may be reordered, so that they can be done several at a time; nothing else is relaxed: what is not a number stays so.
"""

from typing import no_type_check

import numpy as np
from numba import njit

BOUND = 20.0
LEAST = 1e-12
FREE = {"reassoc", "contract", "nsz"}


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
@no_type_check
def turn(said, memory, w_before, cosine, near, blurred, w):  # pragma: no cover - a tracer does not see compiled code
    """Fill the weightings `w` [j, b, n], and what the way back needs: the cosines, the weighting by content, and the one before sharpening."""
    heads, batch, n = w_before.shape
    m, kind = memory.shape[1], memory.dtype.type
    size = (said.shape[1] - heads * m) // heads
    k, s = np.empty(m, memory.dtype), np.empty(size - m - 3, memory.dtype)
    length, gated, logs = (np.empty(n, memory.dtype), np.empty(n, memory.dtype), np.empty(n, memory.dtype))
    for b in range(batch):
        _lengths(memory[b], length)
        for j in range(heads):
            beta, g, gamma, scale = _activate(said[b, j * size : (j + 1) * size], k, s)
            _match(memory[b], k, kind(scale), length, cosine[j, b])
            _softmax(cosine[j, b], kind(beta), near[j, b])
            _gate(w_before[j, b], near[j, b], kind(g), gated)
            _convolve(gated, s, blurred[j, b], 1)
            _log(blurred[j, b], logs)
            _softmax(logs, kind(gamma), w[j, b])


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
@no_type_check
def turn_back(
    said, memory, w_before, cosine, near, blurred, w, grad, to_said, to_memory, to_before
):  # pragma: no cover - a tracer does not see compiled code
    """From the gradient in `w` to those in what went into `turn`. `to_said` and `to_memory` are added to."""
    heads, batch, n = w_before.shape
    m, kind = memory.shape[1], memory.dtype.type
    size = (said.shape[1] - heads * m) // heads
    shifts = size - m - 3
    k, s, to_s = np.empty(m, memory.dtype), np.empty(shifts, memory.dtype), np.empty(shifts, memory.dtype)
    length, logs, pull = np.empty(n, memory.dtype), np.empty(n, memory.dtype), np.empty(n, memory.dtype)
    x, y = np.empty(n, memory.dtype), np.empty(n, memory.dtype)
    for b in range(batch):
        _lengths(memory[b], length)
        pull[:] = 0
        for j in range(heads):
            p, to_p = said[b, j * size : (j + 1) * size], to_said[b, j * size : (j + 1) * size]
            before, cos, wc, ws = w_before[j, b], cosine[j, b], near[j, b], blurred[j, b]
            beta, g, gamma, scale = _activate(p, k, s)
            # Sharpening: w = softmax(gamma log blurred).
            _log(ws, logs)
            _through_softmax(w[j, b], grad[j, b], x)
            to_gamma = _dot(x, logs)
            for i in range(n):
                x[i] *= kind(gamma) / ws[i] if ws[i] >= kind(LEAST) else kind(0)
            # Shift.
            _gate(before, wc, kind(g), y)
            for q in range(shifts):
                _roll(y, q - shifts // 2, logs)
                to_s[q] = _dot(x, logs)
            _convolve(x, s, y, -1)
            # Gate.
            to_g = kind(0)
            for i in range(n):
                to_g += y[i] * (wc[i] - before[i])
                to_before[j, b, i] = kind(1 - g) * y[i]
                y[i] *= kind(g)
            # Content: near = softmax(beta cosine). From here on x is the gradient in k . M_i.
            _through_softmax(wc, y, x)
            to_beta = _dot(x, cos)
            along = beta * to_beta
            for i in range(n):
                x[i] *= kind(beta) / length[i]
                if length[i] > kind(LEAST):
                    pull[i] += x[i] * cos[i] / length[i]
                x[i] *= kind(scale)
            bend = along * scale * scale if scale < 1 / LEAST else 0.0
            for c in range(m):
                to_p[c] = (_dot(x, memory[b, c]) - kind(bend) * k[c]) * (kind(1) - k[c] * k[c])
                _add(to_memory[b, c], k[c], x)
            to_p[m] = to_beta * _sigmoid(p[m])
            to_p[m + 1] = to_g * g * (1 - g)
            mean = _dot(s, to_s)
            for q in range(shifts):
                to_p[m + 2 + q] = s[q] * (to_s[q] - mean)
            to_p[m + 2 + shifts] = to_gamma * _sigmoid(p[m + 2 + shifts])
            for c in range(size):
                if abs(p[c]) > BOUND:
                    to_p[c] = 0
        for c in range(m):
            for i in range(n):
                to_memory[b, c, i] -= pull[i] * memory[b, c, i]


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
@no_type_check
def use(said, memory, w, reads, after):  # pragma: no cover - a tracer does not see compiled code
    """Fill `reads` [b, r] with what is read, and `after` with the memory after writing."""
    (batch, m), heads = memory.shape[:2], len(w) // 2
    e, a = np.empty((heads, m), memory.dtype), np.empty((heads, m), memory.dtype)
    for b in range(batch):
        _edits(said[b, said.shape[1] - 2 * heads * m :], e, a)
        for c in range(m):
            old, new = memory[b, c], after[b, c]
            for h in range(heads):
                reads[b, h * m + c] = _dot(w[h, b], old)
            new[:] = old
            for h in range(heads):
                _erase(new, w[heads + h, b], e[h, c])
            for h in range(heads):
                _add(new, a[h, c], w[heads + h, b])


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
@no_type_check
def use_back(
    said, memory, w, grad_reads, grad_after, to_said, to_memory, to_w
):  # pragma: no cover - a tracer does not see compiled code
    """From the gradients in what was read and in the memory afterwards to those in what went into `use`. `to_said` and `to_w` are added to."""
    batch, m, n = memory.shape
    heads, kind = len(w) // 2, memory.dtype.type
    e, a = np.empty((heads, m), memory.dtype), np.empty((heads, m), memory.dtype)
    kept = np.empty(n, memory.dtype)
    for b in range(batch):
        p, to_p = said[b, said.shape[1] - 2 * heads * m :], to_said[b, said.shape[1] - 2 * heads * m :]
        _edits(p, e, a)
        for c in range(m):
            old, grad, to_old = memory[b, c], grad_after[b, c], to_memory[b, c]
            to_old[:] = grad
            for h in range(heads):
                _erase(to_old, w[heads + h, b], e[h, c])
            for h in range(heads):
                for i in range(n):
                    kept[i] = grad[i] * old[i]
                for other in range(heads):
                    if other != h:
                        _erase(kept, w[heads + other, b], e[other, c])
                q = 2 * h * m + c
                if abs(p[q]) <= BOUND:
                    to_p[q] = -_dot(w[heads + h, b], kept) * e[h, c] * (kind(1) - e[h, c])
                if abs(p[q + m]) <= BOUND:
                    to_p[q + m] = _dot(w[heads + h, b], grad) * (kind(1) - a[h, c] * a[h, c])
                _mix(to_w[heads + h, b], a[h, c], grad, -e[h, c], kept)
                _mix2(to_w[h, b], to_old, grad_reads[b, h * m + c], old, w[h, b])


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
@no_type_check
def step(t, said, memory, cosine, near, blurred, w, reads):  # pragma: no cover - a tracer does not see compiled code
    """`turn` and `use` at step t of many, in arrays that hold all of them; of the memory, perhaps two in turns."""
    before, after = memory[t % len(memory)], memory[(t + 1) % len(memory)]
    turn(said[t], before, w[t], cosine[t], near[t], blurred[t], w[t + 1])
    use(said[t], before, w[t + 1], reads[t + 1], after)


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
@no_type_check
def step_back(t, said, memory, cosine, near, blurred, w, to_said, to_memory, to_w, grad_reads):  # pragma: no cover
    """The way back through `step`. The gradients in the memory and in w have two places each: step t finds them in place t mod 2 and leaves those of the
    step before in the other."""
    here, there = t % 2, (t + 1) % 2
    use_back(said[t], memory[t], w[t + 1], grad_reads[t], to_memory[here], to_said[t], to_memory[there], to_w[here])
    turn_back(
        *(said[t], memory[t], w[t], cosine[t], near[t], blurred[t], w[t + 1]),
        *(to_w[here], to_said[t], to_memory[there], to_w[there]),
    )


@njit(cache=True, nogil=True, fastmath=FREE, inline="always")
@no_type_check
def _clip(x):  # pragma: no cover
    return min(max(x, -BOUND), BOUND)


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
@no_type_check
def _sigmoid(x):  # pragma: no cover
    return 1.0 / (1.0 + np.exp(-_clip(x)))


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
@no_type_check
def _activate(p, k, s):  # pragma: no cover
    """Fill the key and the shifts; returns (beta, g, gamma, 1 / the key's length)."""
    m, shifts = len(k), len(s)
    square, total, top = 0.0, 0.0, -np.inf
    for c in range(m):
        k[c] = np.tanh(_clip(p[c]))
        square += k[c] * k[c]
    for q in range(shifts):
        top = max(top, _clip(p[m + 2 + q]))
    for q in range(shifts):
        s[q] = np.exp(_clip(p[m + 2 + q]) - top)
        total += s[q]
    for q in range(shifts):
        s[q] /= total
    beta, gamma = np.log1p(np.exp(_clip(p[m]))), 1.0 + np.log1p(np.exp(_clip(p[m + 2 + shifts])))
    return beta, _sigmoid(p[m + 1]), gamma, 1.0 / max(np.sqrt(square), LEAST)


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
@no_type_check
def _edits(p, e, a):  # pragma: no cover
    """Fill what the heads erase and add."""
    heads, m = e.shape
    for h in range(heads):
        for c in range(m):
            e[h, c] = _sigmoid(p[2 * h * m + c])
            a[h, c] = np.tanh(_clip(p[(2 * h + 1) * m + c]))


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
@no_type_check
def _lengths(memory, length):  # pragma: no cover
    """Fill the lengths of the rows, none below LEAST."""
    least = memory.dtype.type(LEAST)
    length[:] = 0
    for c in range(memory.shape[0]):
        column = memory[c]
        for i in range(len(length)):
            length[i] += column[i] * column[i]
    for i in range(len(length)):
        length[i] = max(np.sqrt(length[i]), least)


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
@no_type_check
def _match(memory, k, scale, length, out):  # pragma: no cover
    """Fill the cosines of the key with the rows."""
    out[:] = 0
    for c in range(memory.shape[0]):
        _add(out, k[c] * scale, memory[c])
    for i in range(len(out)):
        out[i] /= length[i]


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
@no_type_check
def _add(out, scale, x):  # pragma: no cover
    for i in range(len(out)):
        out[i] += scale * x[i]


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
@no_type_check
def _erase(x, w, e):  # pragma: no cover
    one = x.dtype.type(1)
    for i in range(len(x)):
        x[i] *= one - w[i] * e


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
@no_type_check
def _mix(out, a, x, b, y):  # pragma: no cover
    for i in range(len(out)):
        out[i] += a * x[i] + b * y[i]


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
@no_type_check
def _mix2(one, other, scale, x, y):  # pragma: no cover
    for i in range(len(one)):
        one[i] += scale * x[i]
        other[i] += scale * y[i]


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
@no_type_check
def _gate(before, near, g, out):  # pragma: no cover
    for i in range(len(out)):
        out[i] = before[i] + g * (near[i] - before[i])


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
@no_type_check
def _log(x, out):  # pragma: no cover
    least = x.dtype.type(LEAST)
    for i in range(len(x)):
        out[i] = np.log(max(x[i], least))


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
@no_type_check
def _dot(x, y):  # pragma: no cover
    total = x.dtype.type(0)
    for i in range(len(x)):
        total += x[i] * y[i]
    return total


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
@no_type_check
def _softmax(x, strength, out):  # pragma: no cover
    """out = softmax(strength x), for a strength of at least 0."""
    total, top = x.dtype.type(0), x[0]
    for i in range(len(x)):
        top = max(top, x[i])
    for i in range(len(x)):
        out[i] = np.exp(strength * (x[i] - top))
    for i in range(len(x)):
        total += out[i]
    scale = x.dtype.type(1) / total
    for i in range(len(x)):
        out[i] *= scale


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
@no_type_check
def _through_softmax(w, grad, out):  # pragma: no cover
    mean = _dot(w, grad)
    for i in range(len(w)):
        out[i] = w[i] * (grad[i] - mean)


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
@no_type_check
def _roll(x, by, out):  # pragma: no cover
    """out_i = x_{i - by}, around the end."""
    by %= len(x)
    out[:by] = x[len(x) - by :]
    out[by:] = x[: len(x) - by]


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
@no_type_check
def _convolve(x, s, out, direction):  # pragma: no cover
    """out_i = sum_r x_{i - direction r} s_r, around the end."""
    n, r = len(x), len(s) // 2
    out[:] = 0
    for q in range(len(s)):
        by = direction * (q - r) % n
        _add(out[:by], s[q], x[n - by :])
        _add(out[by:], s[q], x[: n - by])
