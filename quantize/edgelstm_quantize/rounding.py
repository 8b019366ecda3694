"""Rounds weights to int8 so that the products stay right, not the weights.

To round each weight to the nearest code minimises the error of the weights. What counts is the
error of `x @ W`, and the features of x go up and down together: so an error made in one column can
be made good in others. The columns are rounded one after the other, and after each the columns
that are left take up its error, as the second moments of x over the calibration say is best. The
bias, which is not rounded to 8 bits, comes last and takes up what remains. Two products that are
added (`x @ W + h @ U`) are one product of (x, h).

Source: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", ICLR 2023, algorithm 1; the joint treatment of summands and bias is added here.

The result is a float model whose weights lie on the grid that the quantiser will use: in each row
(or in the whole kernel) the largest weight has the code +-127.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgelstm_quantize import flatbuffer
from edgelstm_quantize.flatbuffer import Product

_DAMPING = 0.01  # of the mean second moment: what was not seen in calibration counts a little
_SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8)  # of a row's range: clipping few weights can help the rest
_CODES = 127


def round_weights(
    float_model: bytes, activations: Mapping[str, NDArray[np.float32]], *, per_channel: bool
) -> bytes:
    """Puts the kernels of a float model on the int8 grid.

    Args:
        float_model: a TFLite model in canonical form.
        activations: samples of the tensors that are multiplied, (rows, features), by name.
        per_channel: whether each row of a kernel will have a scale of its own.
    """
    found, sums = flatbuffer.products(float_model)
    values: dict[int, NDArray[np.float32]] = {}
    for group in _groups(found, sums):
        if all(product.source in activations for product in group):
            values |= _round_group(group, activations, per_channel)
    return flatbuffer.with_constants(float_model, values)


def sources(float_model: bytes) -> set[str]:
    """The names of the tensors whose samples `round_weights` needs."""
    return {product.source for product in flatbuffer.products(float_model)[0]}


def _groups(found: list[Product], sums: list[tuple[str, str]]) -> list[list[Product]]:
    """Products to be rounded together: summands, or all uses of one kernel."""
    by_output = {product.output: product for product in found}
    groups: list[list[Product]] = []
    taken: set[str] = set()
    for first, second in sums:
        pair = [by_output[first], by_output[second]]
        if all(product.kernel.uses == 1 for product in pair):
            groups.append(pair)
            taken |= {first, second}
    by_kernel: dict[int, list[Product]] = {}
    for product in found:
        if product.output not in taken:
            by_kernel.setdefault(product.kernel.buffer, []).append(product)
    return groups + list(by_kernel.values())


def _round_group(
    group: list[Product], activations: Mapping[str, NDArray[np.float32]], per_channel: bool
) -> dict[int, NDArray[np.float32]]:
    shared = group[0].kernel.uses > 1
    if shared:  # one kernel, several uses: samples one below the other
        parts = [np.concatenate([activations[product.source] for product in group])]
        kernels = [group[0].kernel]
    else:  # several kernels, one sum: samples side by side
        parts = [activations[product.source] for product in group]
        kernels = [product.kernel for product in group]
    biased = next((p for p in group if p.bias.uses == 1 and p.bias.values.any()), None)
    x = np.concatenate([*parts, np.ones((len(parts[0]), 1))], axis=1).astype(np.float64)
    moments = x.T @ x / len(x)
    weights = np.concatenate([kernel.values for kernel in kernels], axis=1).astype(np.float64)
    largest = np.concatenate([_largest(k.values, per_channel) for k in kernels], axis=1)
    shrinks = _SHRINKS if per_channel else (1.0,)
    rounded, offset = _best_rounding(
        weights, largest, moments, shrinks, free_bias=biased is not None
    )
    values = {}
    start = 0
    for kernel in kernels:
        stop = start + kernel.values.shape[1]
        values[kernel.buffer] = rounded[:, start:stop].astype(np.float32)
        start = stop
    if biased:
        values[biased.bias.buffer] = (biased.bias.values + offset).astype(np.float32)
    return values


def _largest(kernel: NDArray[np.float32], per_channel: bool) -> NDArray[np.float64]:
    """The largest |weight| that sets the scale, (rows, columns)."""
    absolute = np.abs(kernel).astype(np.float64)
    peak = absolute.max(axis=1, keepdims=True) if per_channel else absolute.max()
    return np.broadcast_to(np.maximum(peak, 1e-30), kernel.shape)


def _best_rounding(
    weights: NDArray[np.float64],
    largest: NDArray[np.float64],
    moments: NDArray[np.float64],
    shrinks: Sequence[float],
    *,
    free_bias: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of the roundings with ranges shrunk a little, the best for each row."""
    # All tries at once, one below the other: rows do not see one another.
    grids = np.concatenate([largest * shrink / _CODES for shrink in shrinks])
    tries, shifts = _round(np.tile(weights, (len(shrinks), 1)), grids, moments, free_bias)
    error = np.column_stack([tries - np.tile(weights, (len(shrinks), 1)), shifts])
    losses = np.einsum("ri,ri->r", error @ moments, error).reshape(len(shrinks), -1)
    rows = np.arange(len(weights))
    best = np.argmin(losses, axis=0) * len(weights) + rows
    return tries[best], shifts[best]


def _round(
    weights: NDArray[np.float64],
    scales: NDArray[np.float64],
    moments: NDArray[np.float64],
    free_bias: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rounds column by column; returns the weights and what the bias takes up."""
    columns = weights.shape[1]
    size = columns + 1 if free_bias else columns
    # Large moments first: their errors can then still be made good by the others.
    order = np.argsort(-np.diag(moments)[:columns], kind="stable")
    order = np.append(order, columns) if free_bias else order
    damped = moments[np.ix_(order, order)]
    damped = damped + np.eye(size) * _DAMPING * np.diag(damped).mean()
    # Upper triangular U with inverse(damped) = U.T @ U: its rows say how to pass errors on.
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T
    rows = len(weights)
    work = np.zeros((rows, size))
    work[:, :columns] = weights[:, order[:columns]]
    grid = scales[:, order[:columns]]
    fixed = np.abs(weights[:, order[:columns]]) >= grid * _CODES * (1 - 1e-9)
    for j in range(columns):
        codes = np.clip(np.rint(work[:, j] / grid[:, j]), -_CODES, _CODES)
        # The largest weight keeps its code, because the quantiser takes the scale from it.
        codes = np.where(fixed[:, j], np.copysign(_CODES, weights[:, order[j]]), codes)
        value = codes * grid[:, j]
        error = (work[:, j] - value) / factor[j, j]
        work[:, j] = value
        work[:, j + 1 :] -= error[:, None] * factor[j, j + 1 :]
    result = np.empty_like(weights)
    result[:, order[:columns]] = work[:, :columns]
    shift = work[:, columns] if free_bias else np.zeros(rows)
    return result, shift
