"""A dense network that starts as PCA.

Fixed linear maps beside encoder and decoder (``DenseSpec.linear_path``) carry the rows' scores on
the principal axes, and the layers learn what is to be added. So the network rebuilds rows as PCA
does before it has learned anything, and its training need not keep what PCA knows. In benchmarks
it ends at a lower error, after fewer epochs (docs/defaults.md).
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from skae._networks.dense import DenseNetwork, DenseSpec
from skae._runtime.device import computing
from skae._runtime.randomness import WEIGHTS_STREAM, generator
from skae._runtime.tuning import DAMPED_SHARE, LEAST_SHARE, UNITS_BESIDE_PCA

# Passes over rows that come in blocks, before the axes are read off.
_PASSES = 3

# Axes that an iteration finds beside those asked for.
_MORE_AXES = 10

# Features up to which all eigenvectors are computed.
_FEW_FEATURES = 256


class PrincipalAxes(NamedTuple):
    """Mean (n_features,), axes (n_axes, n_features) and standard deviations along them."""

    mean: Tensor
    axes: Tensor
    deviations: Tensor


class AxesProducts(NamedTuple):
    """The products by which the bits of axes may depend on the number of threads.

    Called, it makes them of drawn numbers.

    Attributes
    ----------
    n_rows, n_features, n_axes : int
    """

    n_rows: int
    n_features: int
    n_axes: int

    def __call__(self) -> list[Tensor]:
        rng = torch.Generator().manual_seed(0)
        few = self.n_features <= _FEW_FEATURES
        dtype = torch.float64 if few else torch.float32
        x = torch.rand(self.n_rows, self.n_features, generator=rng, dtype=dtype)
        mean = x.new_ones(len(x)) @ x
        if few:
            return [mean, x.T @ x]
        width = min(self.n_axes + _MORE_AXES, *x.shape)
        found = x @ torch.rand(x.shape[1], width, generator=rng)
        return [mean, found, x.T @ found]


def can_start_as_pca(spec: DenseSpec) -> bool:
    """Whether a linear path may stand beside the layers: latents are what the encoder gives."""
    return spec.n_nonzero is None and not spec.variational


def principal_axes(
    x: Tensor, weights: Tensor | None, n_axes: int, seed: int, spare: bool = False
) -> PrincipalAxes:
    """Principal axes of rows (n, n_features), the widest first; NaN means missing.

    There are fewer than ``n_axes`` if the rows vary in fewer directions. ``spare`` rows may be
    overwritten.
    """
    few = x.shape[1] <= _FEW_FEATURES
    # Values whose squares are infinite have no axes; training reports such values.
    x = x.to(torch.float64 if few else torch.float32)
    x = (x.nan_to_num_(0.0) if spare else x.nan_to_num(0.0)).clamp_(-1e15, 1e15)
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
    rng, width = generator(seed, WEIGHTS_STREAM), min(n_axes + _MORE_AXES, *centered.shape)
    basis = torch.randn(centered.shape[1], width, generator=rng, dtype=torch.float32)
    for _ in range(4):
        found = centered.T @ (centered @ basis)
        with computing(basis.device, 0.0):
            basis = torch.linalg.qr(found).Q
    found = centered @ basis
    with computing(basis.device, 0.0):
        _, deviations, axes = torch.linalg.svd(found, full_matrices=False)
    return (deviations**2)[:n_axes], (axes @ basis.T)[:n_axes]


def axes_of_blocks(
    blocks: Callable[[], Iterable[tuple[Tensor, Tensor | None]]],
    n_axes: int,
    n_features: int,
    seed: int,
) -> PrincipalAxes:
    """Leading principal axes of rows that come in blocks, with weights, as often as asked for.

    By subspace iteration, as in :func:`principal_axes`; each one is a pass over the blocks.
    """
    rng, width = generator(seed, WEIGHTS_STREAM), min(n_axes + _MORE_AXES, n_features)
    basis = torch.randn(n_features, width, generator=rng, dtype=torch.float32)
    mean = torch.zeros(n_features)
    for _ in range(_PASSES):
        count, sums, products = 0.0, torch.zeros(n_features), torch.zeros(n_features, width)
        for x, weights in blocks():
            w = x.new_ones(len(x)) if weights is None else weights.to(x)
            count += float(w.sum())
            sums += w @ x
            products.addmm_(x.T, (x @ basis) * w[:, None])
        mean = sums / count
        with computing(basis.device, 0.0):
            basis = torch.linalg.qr(products / count - mean[:, None] * (mean @ basis)).Q
    covariance = torch.zeros(width, width, dtype=torch.float64)
    for x, weights in blocks():
        scores = ((x - mean) @ basis).double()
        scores *= 1.0 if weights is None else weights.to(scores)[:, None].sqrt()
        covariance += scores.T @ scores
    with computing(basis.device, 0.0):
        variances, columns = torch.linalg.eigh(covariance / count)
    variances, columns = variances.flip(0)[:n_axes], columns.flip(1)[:, :n_axes]
    kept = variances > 1e-7 * variances[0].clamp(min=1e-30)
    axes = columns[:, kept].T.float() @ basis.T
    return PrincipalAxes(mean, axes, variances[kept].sqrt())


def start_as_pca(
    network: DenseNetwork, x: Tensor, weights: Tensor, seeds: tuple[int, ...], spare: bool = False
) -> None:
    """Set the weights of every member so that it rebuilds rows about as PCA of ``x`` does.

    ``x`` are rows (n, n_features), or one set a member; ``weights``, (K, n), those of the rows for
    each member, zero where it must not know one.
    ``spare`` rows may be overwritten.
    """
    spare = spare and network.n_members == 1
    for member, n_latents in enumerate(network.spec.n_components):
        n_axes = min(n_latents, network.spec.n_features)
        own = x if x.ndim == 2 else x[member]
        found = principal_axes(own, weights[member], n_axes, seeds[member], spare)
        _start(network, member, found)


def _start(network: DenseNetwork, member: int, principal: PrincipalAxes) -> None:
    """Set the paths of one member.

    A latent is the score on an axis, divided by the root of its standard deviation. This is a
    compromise: the widest scores would dominate all distances, and noise would if all scores
    were whitened.
    """
    mean, axes, deviations = (values.to(network.parameters) for values in principal)
    encoder, decoder = (network.layers[i] for i in (network.spec.depth - 1, -1))
    scale = deviations.sqrt()[:, None]
    encoder.path[member, : len(axes)] = axes / scale
    decoder.path[member, :, : len(axes)] = (axes * scale).T
    # Not zero: PCA's residual is orthogonal to the axes, so the encoder's gradients would be
    # rounding errors, which Adam turns into steps.
    for layer in (encoder, decoder):
        layer.weight[member].mul_(UNITS_BESIDE_PCA)
    encoder.bias[member, 0] = -encoder.path[member] @ mean
    decoder.bias[member, 0] = mean
    # Layers, too, begin with what a row differs from the mean by.
    if network.spec.depth > 1:
        first = network.layers[0]
        first.bias[member, 0] -= first.weight[member] @ mean


def start_as_shares(network: DenseNetwork, shares: Tensor, scale: Tensor) -> None:
    """Let the last outputs, logits of categories, begin as the logarithms of the values' shares.

    About these, probabilities follow scaled outputs to the first order, so that PCA's outputs
    remain what they are; those of rare values are damped.
    """
    layer, n = network.layers[-1], len(shares)
    shares = shares.clamp(min=LEAST_SHARE)
    slope = scale / shares.clamp(min=DAMPED_SHARE)
    for weight in (layer.weight, layer.path):
        if weight is not None:
            weight[:, -n:] *= slope[:, None]
    layer.bias[..., -n:] *= slope
    layer.bias[..., -n:] += shares.log()
