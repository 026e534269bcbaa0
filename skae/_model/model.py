"""Predictions: batches of rows through a fitted network, under a memory bound."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from skae._data.categories import categories_of, first_units, n_columns_of, sizes_of
from skae._data.columns import cast
from skae._data.convert import dense_chunks
from skae._data.loaded import scaled_bounds, within
from skae._data.scale import AffineScaler, Scaler
from skae._networks.dense import DenseNetwork
from skae._networks.factory import Network, arrays_of, restore
from skae._networks.products import ROW_BLOCK, padded
from skae._networks.subspace import SubspaceNetwork
from skae._runtime.device import computing, device_or_cpu
from skae._runtime.memory import check_fits
from skae._runtime.threads import Pace
from skae._runtime.tuning import EXCESS_UNIT
from skae._runtime.turns import Turns
from skae._training.losses import Loss, LossKind, loss_of

# Few rows, of one caller or several: a pass of a whole block takes as long as that of one row.
TURNS = Turns(ROW_BLOCK)

# Scaled values are cut off here: no layer, and no square, makes infinity of so much.
FARTHEST = 1e15

# What to do where results have no room.
_PARTS = "Pass some rows at a time, or out=, a file, where the method takes it"

# About the largest number of float32.
_FAR = 1e38

# Numbers that a batch may hold in the network's layers.
_BATCH_VALUES = 1 << 20


@dataclass
class Batch:
    """Scaled rows on the device: NaN replaced by zero, and where a value was observed.

    ``originals`` are the rows as the caller has them, where there are any.
    """

    part: slice
    values: Tensor
    observed: Tensor | None
    originals: np.ndarray | None = None

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
    loss : name, function or tuple of these
    n_features : int
    """

    def __init__(self, network: Network, scaler: Scaler, loss: LossKind, n_features: int):
        self.network = network
        self.scaler = scaler
        self.loss = loss
        self.n_features = n_features

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        network = state.pop("network")
        for computed in ("_reach", "_is_by_row"):
            state.pop(computed, None)
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

    def with_network(self, network: Network) -> "Model":
        """The model with another network."""
        return Model(network, self.scaler, self.loss, self.n_features)

    @property
    def dtype(self) -> torch.dtype:
        return self.network.parameters.dtype

    @property
    def sizes(self) -> tuple[int, ...]:
        """Features of each category at the end of a row."""
        return sizes_of(self.scaler)

    @property
    def n_columns(self) -> int:
        """Cells of a row; a category is one."""
        return n_columns_of(self.sizes, self.n_features)

    def encode(self, X: Any, out: Any = None) -> Any:
        """Latents (n, n_components)."""
        return self.map(X, self._first_codes, out=out)

    def reconstruct(self, X: Any, out: Any = None) -> Any:
        """Reconstructed rows in the units of the training data."""
        return self.map(X, self._first_rows, unscaled=True, out=out)

    def decode(self, Z: np.ndarray) -> np.ndarray:
        """Rows, in the units of the training data, of latents."""
        return self.map(Z, self._rows_of_latents, scaled=False, unscaled=True)

    def losses(self, X: Any) -> np.ndarray:
        """Mean loss over the observed features of each row and the members, (n,), float64.

        NaN where nothing was observed.
        """
        return self.map(X, self._losses).astype(np.float64)

    def _first_codes(self, batch: Batch) -> Tensor:
        return self.codes_of(batch)[0]

    def _first_rows(self, batch: Batch) -> Tensor:
        return self.coded(batch).rows[0]

    def _rows_of_latents(self, batch: Batch) -> Tensor:
        return self.rows_of(batch.values)[0]

    def _losses(self, batch: Batch) -> Tensor:
        return self.coded(batch).losses

    def coded(self, batch: Batch, known: "Known | None" = None) -> "Coded":
        """What the network makes of a batch, in which some rows are known."""
        return Coded(self, batch, known=known)

    def codes_of(self, batch: Batch) -> Tensor:
        """Latents (K, n, n_components) of rows (n, n_features)."""
        return self.network.encode(padded(self.given(batch)))[:, : len(batch.values)]

    def given(self, batch: Batch) -> Tensor:
        """The rows as the network gets them: not far beyond what it was trained on."""
        values = batch.given(self.network.missing)
        return values if self._reach is None else values.clamp(*self._reach)

    def softened(self, batch: Batch) -> Tensor:
        """The scaled rows, in which the excess over what the network gets counts by logarithm.

        So it is seen, and squares of it do not hide all else.
        """
        if self._reach is None:
            return batch.values
        within_reach = batch.values.clamp(*self._reach)
        if not torch.compiler.is_exporting() and torch.equal(within_reach, batch.values):
            return batch.values
        excess = batch.values - within_reach
        softened = EXCESS_UNIT * (excess.abs() / EXCESS_UNIT).log1p()
        return batch.values - excess + excess.sign() * softened

    @cached_property
    def _reach(self) -> tuple[Tensor, Tensor] | None:
        """Smallest and largest value of each feature that the network gets, if they are known."""
        if (reach := self.scaler.reach()) is None:
            return None
        low, high = torch.as_tensor(reach, dtype=self.dtype).to(self.network.device)
        return low, high

    def decoded(self, codes: Tensor) -> Tensor:
        """What the network gives, before it is cut off at the bounds of the data."""
        return self.network.decode(padded(codes))[:, : codes.shape[-2]]

    def outputs_of(self, codes: Tensor) -> Tensor:
        """Outputs (K, n, n_features) of latents (n, n_components), or one set a member."""
        outputs = self.decoded(codes)
        return within(outputs, scaled_bounds(self.scaler, outputs.dtype, outputs.device))

    def rows_of(self, codes: Tensor) -> Tensor:
        """The outputs as rows in the scaled space: through the loss's link."""
        return self.cell_loss().link(self.outputs_of(codes))

    def cell_loss(self) -> Loss:
        """The loss of each cell."""
        return loss_of(self.loss, categories_of(self.scaler, self.dtype, self.network.device))

    def computing(self, X: Any) -> AbstractContextManager[Pace]:
        """As predictions of rows compute; a batch is a lap."""
        n_rows = min(X.shape[0], self._batch_length())
        flops = float(self.network.flops * n_rows)
        return computing(self.network.device, flops, partial(self.network.products, n_rows))

    def _batch_length(self) -> int:
        length = _BATCH_VALUES // self.network.row_width // ROW_BLOCK * ROW_BLOCK
        return max(ROW_BLOCK, length)

    def map(
        self,
        X: Any,
        function: Callable[[Batch], Tensor],
        scaled: bool = True,
        unscaled: bool = False,
        out: Any = None,
    ) -> Any:
        """Apply ``function`` to batches of rows; the results, one after another.

        They are written into ``out``, an array of as many numbers a row. Rows are scaled
        before if ``scaled``, results are scaled back if ``unscaled``. Few rows may be computed
        together with those of other threads whose functions are equal.
        """
        of_rows = partial(self._mapped, function, scaled, unscaled, out)
        if X.shape[0] > ROW_BLOCK:
            return of_rows(X)
        kind = None
        if out is None and self._is_by_row and isinstance(X, np.ndarray):
            kind = self, function, scaled, unscaled, X.dtype
        return TURNS.compute(of_rows, X, kind)

    @cached_property
    def _is_by_row(self) -> bool:
        """Whether no row's result depends on the others, not even by the caller's own code."""
        own = self.loss if isinstance(self.loss, tuple) else (self.loss,)
        return (
            isinstance(self.network, DenseNetwork)
            and self.network.device.type == "cpu"
            and isinstance(self.scaler, AffineScaler)
            and not any(map(callable, own))
        )

    def _mapped(
        self,
        function: Callable[[Batch], Tensor],
        scaled: bool,
        unscaled: bool,
        out: Any,
        X: Any,
    ) -> Any:
        with self.computing(X) as pace:
            for batch in self.batches(X, scaled):
                result = function(batch).cpu().numpy()
                if unscaled:
                    result = self.scaler.inverse_transform(result)
                if out is None:
                    n_bytes = float(result.nbytes / len(result) * X.shape[0])
                    check_fits({"results": n_bytes}, "This prediction", _PARTS)
                    out = np.empty((X.shape[0], *result.shape[1:]), dtype=result.dtype)
                out[batch.part] = cast(result, out.dtype).reshape(len(result), *out.shape[1:])
                pace.lap()
        assert out is not None, "validated data has at least one row"
        return out

    def batches(self, X: Any, scaled: bool = True) -> Iterator[Batch]:
        """Batches of rows, scaled unless they are latents."""
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
            yield Batch(part, values, observed, rows)


class Known(NamedTuple):
    """Which rows of a batch were rows of the fit.

    Attributes
    ----------
    rows : Tensor of shape (n,), bool
    trained : Tensor of shape (K, n), bool
        Which members were trained on which rows.
    """

    rows: Tensor
    trained: Tensor


class Coded:
    """A batch and what the network makes of it; each part is computed once, when asked for.

    Parameters
    ----------
    model : Model
    batch : Batch
    codes : Tensor of shape (K, n, n_components), default=None
        Latents to decode in place of the batch's own.
    known : Known, default=None
        Rows of the fit among these. The members that were trained on a row leave it to the
        others, where there are any. None stands for new rows.
    """

    def __init__(
        self,
        model: Model,
        batch: Batch,
        codes: Tensor | None = None,
        known: Known | None = None,
    ):
        self._model, self.batch, self._known = model, batch, known
        self._loss = model.cell_loss()
        if codes is not None:
            self.codes = codes

    @cached_property
    def codes(self) -> Tensor:
        """Latents, (K, n, n_components)."""
        return self._model.codes_of(self.batch)

    @cached_property
    def outputs(self) -> Tensor:
        """What the network gives, (K, n, n_features)."""
        return self._model.outputs_of(self.codes)

    @property
    def rows(self) -> Tensor:
        """Reconstructed rows in the scaled space, (K, n, n_features)."""
        return self._loss.link(self.outputs)

    @cached_property
    def n_observed(self) -> Tensor | float:
        """Observed cells of each row, (n, 1); a category is one."""
        observed, sizes = self.batch.observed, self._model.sizes
        if observed is None:
            return float(self._model.n_columns)
        if sizes:
            observed = observed[:, first_units(sizes, self._model.n_features)]
        return observed.sum(-1, keepdim=True).clamp(min=1).to(self.outputs.dtype)

    @property
    def share(self) -> Tensor:
        """Share of the observed cells of each row, (n,), on the CPU."""
        observed = self.batch.observed
        if observed is None:
            return torch.ones(len(self.batch.values))
        return observed.cpu().float().mean(-1)

    @cached_property
    def member_losses(self) -> Tensor:
        """Loss of each cell for each member, (K, n, n_features), zero where it is missing."""
        outputs, observed = self.outputs, self.batch.observed
        values = self._loss.value(outputs, self.batch.values.expand_as(outputs))
        # Not by a product: a loss that overflows would make NaN of a missing cell.
        return values if observed is None else values.masked_fill(~observed, 0.0)

    @cached_property
    def cell_losses(self) -> Tensor:
        """Loss of each cell, (n, n_features); the mean of the members."""
        return self.average(self.member_losses)

    @property
    def losses(self) -> Tensor:
        """Mean loss of each row, (n,); NaN where nothing was observed."""
        return self.judged((self.cell_losses.sum(-1, keepdim=True) / self.n_observed)[:, 0])

    def judged(self, scores: Tensor) -> Tensor:
        """Scores of the rows, (n,), with NaN for rows of which nothing was observed."""
        if (observed := self.batch.observed) is None:
            return scores
        return scores.where(observed.any(-1).to(scores.device), torch.nan)

    @property
    def shares(self) -> Tensor:
        """What each cell adds to the row's mean loss, (n, n_features)."""
        return self.cell_losses / self.n_observed

    @cached_property
    def values(self) -> Tensor:
        """The scaled rows, (n, n_features), in float64 on the CPU; the far excess by logarithm."""
        return _finite(self._softened.cpu().to(torch.float64, copy=True))

    @cached_property
    def _softened(self) -> Tensor:
        return self._model.softened(self.batch)

    @cached_property
    def originals(self) -> Tensor:
        """The rows in the units of the training data, (n, n_features), float32 on the CPU."""
        scaler, values = self._model.scaler, self.batch.values.cpu()
        if not isinstance(scaler, AffineScaler):
            return torch.from_numpy(scaler.inverse_transform(values.numpy())).float()
        scale, center = (torch.from_numpy(v).float() for v in (scaler.scale, scaler.center))
        return values.float() * scale + center

    @cached_property
    def member_residuals(self) -> Tensor:
        """What the network gives less the rows, (K, n, n_features), on the CPU.

        Missing cells have no residual, and the others count for them.
        """
        residuals, observed = self.rows - self._softened, self.batch.observed
        if observed is not None:
            residuals = residuals * observed * (self._model.n_columns / self.n_observed) ** 0.5
        return _finite(residuals.cpu())

    @property
    def joint(self) -> Tensor:
        """Latents and residuals, (K, n, n_components + n_features), on the CPU."""
        return _finite(torch.cat([self.codes.cpu(), self.member_residuals], -1))

    @property
    def outside(self) -> Tensor:
        """Where the network works in a subspace, the size of the residuals outside, (K, n, 1)."""
        network, residuals = self._model.network, self.member_residuals
        assert isinstance(network, SubspaceNetwork)
        return _finite(network.outside(padded(residuals))[:, : residuals.shape[1]])

    @property
    def has_outside(self) -> bool:
        """Whether the network works in a subspace."""
        return isinstance(self._model.network, SubspaceNetwork)

    @cached_property
    def residuals(self) -> Tensor:
        """The mean residuals of the members, (n, n_features), in float64."""
        return self.average(self.member_residuals).double()

    @property
    def known(self) -> Tensor | None:
        """Which rows are of the fit, (n,); None where there are none."""
        return None if self._known is None else self._known.rows

    @property
    def alone(self) -> Tensor | None:
        """Which rows all members were trained on, (n,); None where there are none."""
        if self._known is None:
            return None
        alone = self._known.trained.all(0)
        return alone if bool(alone.any()) else None

    @property
    def calibrated(self) -> Tensor | None:
        """Which members were calibrated on which rows, (K, n); None where there are none."""
        if self._known is None:
            return None
        rows, trained = self._known
        return rows & (~trained | trained.all(0))

    def average(self, parts: Tensor) -> Tensor:
        """Of (K, n, ...), the mean of the members that judge a row."""
        if len(parts) == 1:
            return parts[0]
        if self._known is None:
            return parts.mean(0)
        trained = self._known.trained
        judge = (~trained | trained.all(0)).to(parts.device, parts.dtype)
        judge = judge.view(*judge.shape, *(1,) * (parts.ndim - 2))
        # Divided last, as a mean is: so a new row's result does not depend on known ones beside it.
        return (parts * judge).sum(0) / judge.sum(0)


def _finite(values: Tensor) -> Tensor:
    # What overflows is far out, not undefined.
    return values.nan_to_num_(_FAR, _FAR, -_FAR)
