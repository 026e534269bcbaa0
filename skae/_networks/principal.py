"""A dense network that starts as PCA.

Activations with ``f(x) - f(-x) = x`` let pairs of hidden units pass a number on unchanged. So
the first units of every hidden layer can carry the rows' scores on the principal axes, in
pairs of opposite sign, and the network rebuilds rows as PCA does before its other units have
learned anything. In benchmarks it ends at a lower error, after fewer epochs (docs/defaults.md).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from skae._networks.dense import DenseNetwork, DenseSpec
from skae._runtime.device import computing
from skae._runtime.randomness import WEIGHTS_STREAM, generator
from skae._runtime.tuning import (
    AXES_THAT_MAY_FILL_A_LAYER,
    DAMPED_SHARE,
    LEAST_SHARE,
    UNITS_BESIDE_PCA,
)

# Activations with f(x) - f(-x) = x.
_PASSING = ("relu", "silu", "gelu")

# Features up to which all eigenvectors are computed.
_FEW_FEATURES = 256


class PrincipalAxes(NamedTuple):
    """Mean (n_features,), axes (n_axes, n_features) and standard deviations along them."""

    mean: Tensor
    axes: Tensor
    deviations: Tensor


def passes_lines(spec: DenseSpec) -> bool:
    """Whether the network can pass a linear map of its input through all layers."""
    linear = spec.activation in _PASSING or not spec.hidden_layer_sizes
    plain = spec.normalization is None and spec.n_nonzero is None and not spec.variational
    return linear and plain


def principal_axes(x: Tensor, weights: Tensor | None, n_axes: int, seed: int) -> PrincipalAxes:
    """Principal axes of rows (n, n_features), the widest first; NaN means missing.

    There are fewer than ``n_axes`` if the rows vary in fewer directions.
    """
    few = x.shape[1] <= _FEW_FEATURES
    # Values whose squares are infinite have no axes; training reports such values.
    x = x.to(torch.float64 if few else torch.float32).nan_to_num(0.0).clamp_(-1e15, 1e15)
    w = x.new_ones(len(x)) if weights is None else weights.to(x)
    w = w / w.sum()
    mean = w @ x
    centered = x.sub_(mean).mul_(w.sqrt()[:, None])
    if few:
        with computing(x.device, 0.0):
            variances, columns = torch.linalg.eigh(centered.T @ centered)
        variances, axes = variances.flip(0)[:n_axes], columns.flip(1)[:, :n_axes].T
    else:
        variances, axes = _leading(centered, n_axes, seed)
    # What rows far from zero vary by may be rounding, which scores would blow up.
    rounding = 1e-14 * (mean @ mean)
    kept = variances > (1e-7 * variances[0]).clamp(min=1e-37).maximum(rounding)
    axes, variances = axes[kept], variances[kept]
    # The sign of an axis is arbitrary, so its largest entry is made positive.
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    return PrincipalAxes(mean, axes * largest.sign(), variances.sqrt())


def _leading(centered: Tensor, n_axes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Leading variances and axes by subspace iteration (Halko et al. 2011)."""
    rng, width = generator(seed, WEIGHTS_STREAM), min(n_axes + 10, *centered.shape)
    basis = torch.randn(centered.shape[1], width, generator=rng, dtype=torch.float32)
    for _ in range(4):
        found = centered.T @ (centered @ basis)
        with computing(basis.device, 0.0):
            basis = torch.linalg.qr(found).Q
    found = centered @ basis
    with computing(basis.device, 0.0):
        _, deviations, axes = torch.linalg.svd(found, full_matrices=False)
    return (deviations**2)[:n_axes], (axes @ basis.T)[:n_axes]


def start_as_pca(network: DenseNetwork, x: Tensor, weights: Tensor, seeds: tuple[int, ...]) -> None:
    """Set the weights of every member so that it rebuilds rows about as PCA of ``x`` does.

    ``weights``, (K, n), are those of the rows for each member; zero where it must not know one.
    """
    # An axis takes two units of a hidden layer. If there are many axes, half of the units stay
    # free: with 128 axes and 256 units, training on Fashion-MNIST diverged; with 64 it did not.
    rooms = [
        max(size // 4, min(size // 2, AXES_THAT_MAY_FILL_A_LAYER))
        for size in network.spec.hidden_layer_sizes
    ]
    for member, n_latents in enumerate(network.spec.n_components):
        n_axes = min(n_latents, network.spec.n_features, *rooms)
        _start(network, member, principal_axes(x, weights[member], n_axes, seeds[member]))


def _start(network: DenseNetwork, member: int, principal: PrincipalAxes) -> None:
    """Set the weights of one member that carry the scores.

    A latent is the score on an axis, divided by the root of its standard deviation. This is a
    compromise: the widest scores would dominate all distances, and noise would if all scores
    were whitened.
    """
    mean, axes, deviations = (values.to(network.parameters) for values in principal)
    depth, r = network.spec.depth, len(axes)
    weights = [layer.weight[member] for layer in network.layers]
    biases = [layer.bias[member, 0] for layer in network.layers]
    scale = deviations.sqrt()
    # Maps to unit scores and back.
    into, out = axes / deviations[:, None], (axes * deviations[:, None]).T
    # Not zero: PCA's residual is orthogonal to the axes, so the encoder's gradients would be
    # rounding errors, which Adam turns into steps.
    weights[-1].mul_(UNITS_BESIDE_PCA)
    biases[-1].copy_(mean)
    if depth == 1:
        weights[0][:r] = into * scale[:, None]
        biases[0][:r] = -weights[0][:r] @ mean
        weights[1][:, :r] = out / scale
        return
    weights[0][: 2 * r] = torch.cat([into, -into])
    biases[0][: 2 * r] = -weights[0][: 2 * r] @ mean
    weights[-1][:, : 2 * r] = torch.cat([out, -out], 1)
    one = torch.diag(torch.ones_like(scale))
    for i in (*range(1, depth - 1), *range(depth + 1, 2 * depth - 1)):
        _pass(weights[i][: 2 * r], torch.cat([one, -one]), pairs=True)
        biases[i][: 2 * r] = 0.0
    _pass(weights[depth - 1][:r], torch.diag(scale), pairs=True)
    biases[depth - 1][:r] = 0.0
    _pass(weights[depth][: 2 * r], torch.cat([one, -one]) / scale, pairs=False)
    biases[depth][: 2 * r] = 0.0


def _pass(weight: Tensor, values: Tensor, pairs: bool) -> None:
    """Let units read only the scores: each from one unit, or from a pair of units."""
    weight.zero_()
    path = torch.cat([values, -values], 1) if pairs else values
    weight[:, : path.shape[1]] = path


def start_as_shares(network: DenseNetwork, shares: Tensor, scale: Tensor) -> None:
    """Let the last outputs, logits of categories, begin as the logarithms of the values' shares.

    About these, probabilities follow scaled outputs to the first order, so that PCA's outputs
    remain what they are; those of rare values are damped.
    """
    layer, n = network.layers[-1], len(shares)
    shares = shares.clamp(min=LEAST_SHARE)
    slope = scale / shares.clamp(min=DAMPED_SHARE)
    layer.weight[:, -n:] *= slope[:, None]
    layer.bias[..., -n:] *= slope
    layer.bias[..., -n:] += shares.log()
