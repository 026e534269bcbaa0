"""Predictions: batches of rows through a fitted network, under a memory bound."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from skae.data.batches import scaled_bounds, within
from skae.data.scale import AffineScaler, Scaler
from skae.data.validate import dense_chunks
from skae.device import computing, device_or_cpu
from skae.losses import LOSSES
from skae.networks.build import Network, arrays_of, resized, restore
from skae.networks.conv import padded_length, stage_maps
from skae.networks.dense import DenseNetwork
from skae.networks.latents import divergence, drawn
from skae.networks.modules import ModuleNetwork
from skae.randomness import spread_normal

# Products of one or a few rows take other kernels, with other rounding. Filled up
# to whole blocks, a row's result has the same bits in any batch.
_ROW_BLOCK = 16

# Scaled values are cut off here: no layer, and no square, makes infinity of so much.
FARTHEST = 1e15

# About the largest number of float32.
_FAR = 1e38

# Numbers that a batch may hold in the network's layers.
_BATCH_VALUES = 1 << 20


@dataclass
class Batch:
    """Scaled rows on the device: NaN replaced by zero, and where a value was observed."""

    part: slice
    values: Tensor
    observed: Tensor | None

    def given(self, missing: float) -> Tensor:
        """The rows as a network gets them, in which ``missing`` stands for what is."""
        if self.observed is None or missing == 0.0:
            return self.values
        return self.values.masked_fill(~self.observed, missing)


class Model:
    """A trained network with the scaling of its inputs and its loss.

    Where it has several members, latents and reconstructions are those of the first. It
    pickles as plain arrays and settings.

    Parameters
    ----------
    network : Network
    scaler : Scaler
    loss : str
    n_features : int
    """

    def __init__(self, network: Network, scaler: Scaler, loss: str, n_features: int):
        self.network = network
        self.scaler = scaler
        self.loss = loss
        self.n_features = n_features

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        network = state.pop("network")
        return state | {
            "spec": network.spec,
            "arrays": arrays_of(network.state()),
            "device": str(network.device),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        spec, arrays, device = state.pop("spec"), state.pop("arrays"), state.pop("device")
        self.__dict__.update(state)
        # The device of the fit may be absent here.
        self.network = restore(spec, arrays, device_or_cpu(device))

    def resized(self, image_shape: tuple[int, int], n_channels: int) -> "Model":
        """The model for images of another height and width, if its network takes them."""
        assert isinstance(self.scaler, AffineScaler)
        n_pixels = image_shape[0] * image_shape[1]
        scaler = AffineScaler(
            self.scaler.center[:n_channels], self.scaler.scale[:n_channels], self.scaler.name
        )
        network = resized(self.network, (n_channels, *image_shape))
        return Model(network, scaler.repeated(n_pixels), self.loss, n_pixels * n_channels)

    def _of(self, network: Network) -> "Model":
        """The model with another network."""
        return Model(network, self.scaler, self.loss, self.n_features)

    def with_sparsity(self, sparsity: int) -> "Model":
        """The model that keeps so many latents of a row."""
        network = self.network
        spec = dataclasses.replace(network.spec, sparsity=sparsity)
        changed = restore(spec, arrays_of(network.state()), network.device)
        return self._of(changed)

    def in_float64(self) -> "Model":
        """The model with float64 weights on the CPU: nearly the same bits on every machine."""
        network = self.network
        cpu = torch.device("cpu")
        exact = restore(network.spec, arrays_of(network.state()), cpu, torch.float64)
        return self._of(exact)

    @property
    def dtype(self) -> torch.dtype:
        return self.network.parameters.dtype

    def encode(self, X: Any, out: Any = None) -> Any:
        """Latents (n, n_components)."""
        return self._map(X, self.codes_of, out=out)

    def reconstruct(self, X: Any, out: Any = None) -> Any:
        """Reconstructed rows in the units of the training data."""
        return self._map(X, self.reconstruction_of, unscaled=True, out=out)

    def decode(self, Z: np.ndarray) -> np.ndarray:
        """Rows, in the units of the training data, of latents."""
        link = LOSSES[self.loss].link

        def decoded(batch: Batch) -> Tensor:
            return link(self._outputs(batch.values)[0])

        return self._map(Z, decoded, scaled=False, unscaled=True)

    def losses(self, X: Any) -> np.ndarray:
        """Mean loss over the observed features of each row and the members, (n,), float64."""
        return self._map(X, self.losses_of).astype(np.float64)

    def bounds(self, X: Any, beta: float, n_draws: int = 32) -> np.ndarray:
        """Surprise at each row over drawn latents, and ``beta`` times their divergence, a feature.

        The draws are the same for every row and call.
        """
        loss, dispersion = LOSSES[self.loss], self.network.dispersion

        def row_bounds(batch: Batch) -> Tensor:
            n, posterior = len(batch.values), self.network.posterior(_padded(batch.values))
            mean, log_variance = (half[:, :n] for half in posterior)
            total = beta * divergence(mean, log_variance)[0, :, None]
            for row in noise.to(mean):
                values, n_observed = self._cell_losses(batch, drawn(mean, log_variance, row))
                errors = values.sum(-1, keepdim=True)
                total += loss.surprise(errors, n_observed, dispersion) / n_draws
            return (total / n_observed)[:, 0]

        noise = spread_normal(n_draws, self.network.spec.n_latents)
        return self._map(X, row_bounds).astype(np.float64)

    def contributions(self, X: Any) -> np.ndarray:
        """What each feature adds to :meth:`losses`, (n, n_features)."""

        def cell_losses(batch: Batch) -> Tensor:
            values, n_observed = self._cell_losses(batch, self._codes(batch))
            return values / n_observed

        return self._map(X, cell_losses)

    def map_joint(self, X: Any, function: Callable[[Tensor, Tensor], Tensor]) -> np.ndarray:
        """Apply ``function`` to the latents and residuals of batches of rows.

        It gets these as (K, n, n_components + n_features), and the scaled rows, both in
        float64 on the CPU, and gives one entry a row. Missing cells have no residual, and
        the others count for them.
        """
        return self._map(X, lambda batch: function(*self.joint_of(batch)))

    def pixel_features(self, X: Any) -> np.ndarray:
        """Every pixel's features, (n, height, width, n_features): the scaled image and all stages.

        Stages of lower resolution are interpolated.
        """
        network = self.network
        assert isinstance(network, ModuleNetwork)
        _, height, width = network.spec.input_shape

        def features(batch: Batch) -> Tensor:
            network.train(False)
            images = network.shaped(batch.given(network.missing))
            maps = [network.shaped(batch.values)]
            for stage in stage_maps(network.pair["encoder"], images):
                factor = padded_length(network.pair["encoder"], height) // stage.shape[2]
                wide = functional.interpolate(stage, scale_factor=factor, mode="bilinear")
                maps.append(wide[..., :height, :width])
            return torch.cat(maps, 1).permute(0, 2, 3, 1)

        return self._map(X, features)

    def explained_variance(
        self, X: Any, weights: np.ndarray | None = None, sizes: Sequence[int | None] = (None,)
    ) -> np.ndarray:
        """1 - SSE / SST over the observed cells of the scaled rows, by the first latents alone.

        One value for each number of latents of ``sizes``; None is all of them.
        """
        with computing(self.network.device, self._flops(X)):
            sse, count = np.zeros(len(sizes)), torch.zeros(self.n_features, dtype=torch.float64)
            total, squares = torch.zeros_like(count), torch.zeros_like(count)
            for batch in self._batches(X, scaled=True):
                values = batch.values.cpu().double()
                weight = torch.ones(len(values), 1, dtype=torch.float64)
                if weights is not None:
                    weight *= torch.as_tensor(weights[batch.part], dtype=torch.float64)[:, None]
                if batch.observed is not None:
                    weight = weight * batch.observed.cpu()
                codes = self._codes(batch)
                for i, size in enumerate(sizes):
                    error = (self._rebuilt(codes, size) - batch.values).cpu().double()
                    sse[i] += float((weight * error**2).sum())
                count += weight.expand_as(values).sum(0)
                total += (weight * values).sum(0)
                squares += (weight * values**2).sum(0)
            sst = float((squares - total**2 / count.clamp(min=1e-300)).sum())
            if sst <= 1e-14 * float(squares.sum()):
                return np.where(sse == 0.0, 1.0, 0.0)
            return 1.0 - sse / sst

    def truncated(self, n_latents: int) -> "Model":
        """The model with the first latents alone."""
        assert isinstance(self.network, DenseNetwork)
        network = self.network.truncated(n_latents)
        return self._of(network)

    def _rebuilt(self, codes: Tensor, n_latents: int | None) -> Tensor:
        """Rows, in the scaled space, of the first latents alone."""
        if n_latents is not None:
            codes = codes.clone()
            codes[..., n_latents:] = 0.0
        return LOSSES[self.loss].link(self._outputs(codes)[0])

    # What the methods above compute of one batch.

    def codes_of(self, batch: Batch) -> Tensor:
        return self._codes(batch)[0]

    def reconstruction_of(self, batch: Batch) -> Tensor:
        """In the scaled space, through the loss's link."""
        return self._rebuilt(self._codes(batch), None)

    def losses_of(self, batch: Batch) -> Tensor:
        values, n_observed = self._cell_losses(batch, self._codes(batch))
        return (values.sum(-1, keepdim=True) / n_observed)[:, 0]

    def joint_of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        codes = self._codes(batch)
        residuals = LOSSES[self.loss].link(self._outputs(codes)) - batch.values
        if batch.observed is not None:
            n_observed = batch.observed.sum(-1, keepdim=True).clamp(min=1)
            residuals = residuals * batch.observed * (self.n_features / n_observed).sqrt()
        # What overflows is far out, not undefined.
        joint, values = (
            t.cpu().double().nan_to_num_(_FAR, _FAR, -_FAR)
            for t in (torch.cat([codes, residuals], -1), batch.values)
        )
        return joint, values

    def _cell_losses(self, batch: Batch, codes: Tensor) -> tuple[Tensor, Tensor | float]:
        """Loss of each cell, and the number of observed cells of each row, (n, 1)."""
        outputs = self._outputs(codes)
        values = LOSSES[self.loss].value(outputs, batch.values.expand_as(outputs))
        values = values[0] if len(values) == 1 else values.mean(0)
        if batch.observed is None:
            return values, float(self.n_features)
        # Not by a product: a loss that overflows would make NaN of a missing cell.
        values = values.masked_fill(~batch.observed, 0.0)
        return values, batch.observed.sum(-1, keepdim=True).clamp(min=1).to(values.dtype)

    def _codes(self, batch: Batch) -> Tensor:
        """Latents (K, n, n_components) of rows (n, n_features)."""
        values = batch.given(self.network.missing)
        return self.network.encode(_padded(values))[:, : len(values)]

    def _outputs(self, codes: Tensor) -> Tensor:
        """Outputs (K, n, n_features) of latents (n, n_components), or one set a member."""
        outputs = self._decoded(codes)
        return within(outputs, scaled_bounds(self.scaler, outputs.dtype, outputs.device))

    def _decoded(self, codes: Tensor) -> Tensor:
        return self.network.decode(_padded(codes))[:, : codes.shape[-2]]

    def _flops(self, X: Any) -> float:
        return float(self.network.flops * min(X.shape[0], self._batch_length()))

    def _batch_length(self) -> int:
        length = _BATCH_VALUES // self.network.row_width // _ROW_BLOCK * _ROW_BLOCK
        return max(_ROW_BLOCK, length)

    def _map(
        self,
        X: Any,
        function: Callable[[Batch], Tensor],
        scaled: bool = True,
        unscaled: bool = False,
        out: Any = None,
    ) -> Any:
        """Apply ``function`` to batches of rows; the results, one after another.

        They are written into ``out``, an array of as many numbers a row. Rows are scaled
        before if ``scaled``, results are scaled back if ``unscaled``.
        """
        with computing(self.network.device, self._flops(X)):
            for batch in self._batches(X, scaled):
                result = function(batch).cpu().numpy()
                if unscaled:
                    result = self.scaler.inverse_transform(result)
                if out is None:
                    out = np.empty((X.shape[0], *result.shape[1:]), dtype=result.dtype)
                out[batch.part] = result.reshape(len(result), *out.shape[1:])
        assert out is not None, "validated data has at least one row"
        return out

    def _batches(self, X: Any, scaled: bool) -> Iterator[Batch]:
        length = self._batch_length()
        for part, rows in dense_chunks(X, length):
            values = torch.empty(rows.shape, dtype=self.dtype)
            if scaled:
                self.scaler.transform(rows, values.numpy())
            else:
                np.copyto(values.numpy(), rows, casting="unsafe")
            values = values.to(self.network.device).clamp_(-FARTHEST, FARTHEST)
            observed = None
            # A sum is NaN if any value is.
            if bool(values.sum().isnan()):
                observed = ~values.isnan()
                values = values.nan_to_num_(0.0)
            yield Batch(part, values, observed)


def _padded(values: Tensor) -> Tensor:
    """Rows of zeros added, up to a whole number of blocks."""
    missing = -values.shape[-2] % _ROW_BLOCK
    return functional.pad(values, (0, 0, 0, missing)) if missing else values
