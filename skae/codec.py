"""LatentCodec: the latents of a transformer as bytes."""

import copy
import io
from collections.abc import Iterable, Iterator
from numbers import Integral, Real
from typing import Any, BinaryIO, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_array, check_is_fitted

from skae._coding.entropy import Table, constriction, decode_columns, encode_columns, fit_table
from skae._coding.quantizer import Quantizer, decoder_metric, fit_quantizer, rounded
from skae._coding.refine import epochs_for, refine
from skae._coding.residual import Grid, fit_grid, grid_steps, integers_of, rounding_of
from skae._coding.stream import MOST_ROWS, fingerprint, read_stream, write_stream
from skae._data.columns import Layout, layout_of
from skae._data.convert import dense_chunks, from_caller
from skae._data.scale import AffineScaler
from skae._data.types import FloatArray, MatrixLike, Output, RandomState
from skae._estimators.base import BaseAutoencoder, all_or_nothing
from skae._estimators.sklearn_private import (
    HasMethods,
    Interval,
    StrOptions,
    check_parameters,
    refuse_booleans,
)
from skae._networks.factory import copied
from skae._runtime.device import resolve_device
from skae._runtime.randomness import draw_seed
from skae._runtime.tuning import ROUNDING_SHARE

__all__ = ["LatentCodec"]

# Columns of Jacobians that the decoder's metric is taken from, and most rows for them.
_METRIC_COLUMNS, _METRIC_ROWS = 1 << 14, 200

# Training rows that step="auto" and the tables of residuals are fitted on.
_SAMPLE_ROWS = 10_000

# Most numbers of a chunk.
_CHUNK_VALUES = 1 << 21

# Most latents: beyond, one linear map of all of them is too large.
_MOST_LATENTS = 4096


class LatentCodec(BaseEstimator):
    """Rows and images as bytes: the quantized latents of a transformer.

    Latents are mapped so that an error of one of them is an error of the decoded row as
    large, rounded to multiples of one step, and written by a range coder with a table of
    frequencies for each. Before that, the network is trained on for just that: the least error
    at a price of bits (Ballé et al., "End-to-end optimized image compression", 2017).

    Parameters
    ----------
    estimator : transformer
        With ``transform`` and ``inverse_transform``: one of skae's, or a scikit-learn one
        such as :class:`~sklearn.decomposition.PCA`. It is cloned and fitted on the rows;
        wrap a fitted one in :class:`sklearn.frozen.FrozenEstimator` to keep it.
    step : float or "auto", default="auto"
        Error at which latents are rounded, as a distance between decoded rows: the length of
        the difference of two rows, in units of the scaled rows (those of ``X``, for a
        transformer that is not skae's). A larger step gives fewer bytes. "auto" lets
        rounding add a quarter to the squared error of the reconstruction; with
        ``max_error`` it takes the step of the fewest bytes in all.
    max_error : float, array-like of shape (n_features,) or None, default=None
        Most that a decoded value may differ, in units of ``X`` and as it is returned, in the
        dtype of the training data. The residuals are coded, too. 0 keeps integers exactly.
        None codes the latents alone.
    max_epochs : int or "auto", default="auto"
        Passes over the training rows that the network is trained on for. "auto" is 10, or
        as many as make 2000 updates, at most 200. 0, and always for a transformer that is
        not skae's, keeps it as it is.
    random_state : int, RandomState instance or None, default=None
        Seed of that training.

    Attributes
    ----------
    estimator_ : transformer
        What encodes and decodes: a fitted clone, trained on.
    step_ : float
        The step.
    bytes_per_row_ : float
        What a training row takes on average, its share of headers not counted.
    fingerprint_ : str
        Names the codec; a stream is decoded by the codec that wrote it, alone.

    See Also
    --------
    skae.AutoencoderTransformer : Latents as arrays.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.codec import LatentCodec
    >>> X = load_digits().images.astype("uint8")
    >>> autoencoder = AutoencoderTransformer(n_components=16, random_state=0)
    >>> codec = LatentCodec(autoencoder, max_epochs=5, random_state=0).fit(X)
    >>> data = codec.encode(X[:100])
    >>> codec.decode(data).shape
    (100, 8, 8)
    >>> len(data) < 100 * 64 / 4
    True

    Batches are written and read as they come:

    >>> import io
    >>> stream = b"".join(codec.encode_batches([X[:50], X[50:100]]))
    >>> sum(len(batch) for batch in codec.decode_batches(io.BytesIO(stream)))
    100
    """

    _parameter_constraints = {
        "estimator": [HasMethods(["fit", "transform", "inverse_transform"])],
        "step": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "max_error": [None, Interval(Real, 0, None, closed="left"), "array-like"],
        "max_epochs": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "random_state": ["random_state"],
    }

    estimator_: Any
    step_: float
    bytes_per_row_: float
    fingerprint_: str
    _layout: Layout
    _quantizer: Quantizer
    _tables: list[Table]
    _grid: Grid | None
    _weighs_bits: bool

    def __init__(
        self,
        estimator: Any,
        *,
        step: float | Literal["auto"] = "auto",
        max_error: ArrayLike | None = None,
        max_epochs: int | Literal["auto"] = "auto",
        random_state: RandomState = None,
    ) -> None:
        self.estimator = estimator
        self.step = step
        self.max_error = max_error
        self.max_epochs = max_epochs
        self.random_state = random_state

    @all_or_nothing
    def fit(self, X: MatrixLike, y: Any = None) -> Self:
        """Fit the estimator, train its network on, and learn steps and tables.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows or images, as the estimator takes them.
        y : None
            Ignored, present for API consistency.

        Returns
        -------
        self : object
            The fitted codec.

        Raises
        ------
        ImportError
            If constriction is not installed (``pip install "skae[codec]"``).
        ValueError
            If a parameter does not fit the data.
        """
        check_parameters(self)
        refuse_booleans(self)
        constriction()
        X = from_caller(X)
        fitted = clone(self.estimator).fit(X, y)
        estimator = fitted.estimator if isinstance(fitted, FrozenEstimator) else fitted
        rows = _rows(estimator, X)
        layout, steps = layout_of(X, rows), None
        if self.max_error is not None:
            spacing = rounding_of(rows, layout)
            steps = grid_steps(self.max_error, layout.is_integer, rows.shape[1], spacing)
        latents = _latents(estimator, X)
        step = self._first_step(estimator, rows, latents)
        quantizer = _fitted_quantizer(estimator, latents, step)
        n_epochs = epochs_for(len(latents)) if self.max_epochs == "auto" else int(self.max_epochs)
        # A network that was trained on knows what its bits cost, and expects plain rounding.
        self._weighs_bits = not (n_epochs and isinstance(estimator, BaseAutoencoder))
        if not self._weighs_bits:
            estimator = copy.copy(estimator)
            seed = draw_seed(self.random_state)
            estimator._model = refine(estimator._model, quantizer, step, rows, n_epochs, seed)
            latents = _latents(estimator, X)
        self.estimator_, self.step_, self._layout = estimator, step, layout
        self._quantizer, self._tables, self._grid = quantizer, [], None
        self._fit_tables(latents)
        if steps is not None:
            self._fit_grid(rows, latents, steps)
        self.fingerprint_ = self._mark().hex()
        return self

    def encode(self, X: MatrixLike) -> bytes:
        """Rows as bytes.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows or images, as the codec was fitted on; none at all is fine, too.

        Returns
        -------
        data : bytes
            A stream: see :meth:`decode`.

        Raises
        ------
        NotFittedError
            If the codec is not fitted.
        ValueError
            If ``max_error`` cannot be kept: a value is missing, no integer where the
            training data were, too large, or between those that the training data's dtype
            has.
        """
        return b"".join(self.encode_batches([X]))

    def encode_batches(self, batches: Iterable[MatrixLike]) -> Iterator[bytes]:
        """A stream of bytes of batches of rows, as they come.

        Parameters
        ----------
        batches : iterable of {array-like, sparse matrix, DataFrame}
            Rows or images of any number.

        Returns
        -------
        pieces : iterator of bytes
            Written one after another they are one stream.

        Raises
        ------
        NotFittedError
            If the codec is not fitted.
        ValueError
            As :meth:`encode`, while the pieces are made.
        """
        check_is_fitted(self)
        return write_stream(self._mark(), self._chunks(batches))

    def decode(self, data: bytes) -> Output:
        """The rows of a stream.

        Parameters
        ----------
        data : bytes
            What :meth:`encode` returned, or the pieces of :meth:`encode_batches`.

        Returns
        -------
        X : ndarray or DataFrame of shape (n_samples, n_features)
            Rows or images as the training data were: their kind, columns and dtypes.

        Raises
        ------
        NotFittedError
            If the codec is not fitted.
        ValueError
            If the stream is cut short, damaged, or of another codec.
        """
        check_is_fitted(self)
        file = io.BytesIO(data)
        decoded = list(self._decoded(file))
        if file.read(1):
            raise ValueError("The stream goes on after its end. Pass one stream at a time.")
        values = np.concatenate(decoded) if decoded else np.empty((0, self._n_features))
        return self._layout.restored(values)

    def decode_batches(self, file: BinaryIO) -> Iterator[Output]:
        """The rows of a stream, a few thousand at a time.

        Parameters
        ----------
        file : binary file
            Open for reading; it is read up to the stream's end.

        Returns
        -------
        batches : iterator of ndarray or DataFrame
            As :meth:`decode` gives them.

        Raises
        ------
        NotFittedError
            If the codec is not fitted.
        ValueError
            As :meth:`decode`, while the batches are read.
        """
        check_is_fitted(self)
        return map(self._layout.restored, self._decoded(file))

    def _first_step(self, estimator: Any, rows: Any, latents: FloatArray) -> float:
        """``step``, or what "auto" stands for."""
        if self.step != "auto":
            return float(self.step)
        part = slice(None, None, max(1, len(latents) // _SAMPLE_ROWS))
        error = _decoded(estimator, latents[part]) - _dense(rows[part])
        n_observed = np.maximum((~np.isnan(error)).sum(axis=0), 1)
        error = np.nan_to_num(error * _weights(estimator))
        squares = float((np.square(error).sum(axis=0) / n_observed).sum())
        if squares == 0.0:
            raise ValueError("step='auto' needs a reconstruction error, but it is 0. Pass a step.")
        if self.max_error is not None:
            # Where a bit more of the latents saves a bit of the residuals: Delta ** 2 / 12 is
            # then the error of one feature.
            return float(np.sqrt(12.0 * squares / error.shape[1]))
        return float(np.sqrt(12.0 * ROUNDING_SHARE * squares / latents.shape[1]))

    def _fit_tables(self, latents: FloatArray) -> None:
        # The second time with the bits known that rounding weighs.
        for _ in range(2 if self._weighs_bits else 1):
            integers = self._integers(latents)
            self._tables = [fit_table(column) for column in integers.T]
        pairs = zip(self._tables, integers.T, strict=True)
        self.bytes_per_row_ = sum(float(t.bits(column).mean()) for t, column in pairs) / 8.0

    def _fit_grid(self, rows: Any, latents: FloatArray, steps: FloatArray) -> None:
        part = slice(None, None, max(1, len(latents) // _SAMPLE_ROWS))
        predictions = self._predictions(self._integers(latents[part]))
        rows = _dense(rows[part])
        self._grid = fit_grid(rows, predictions, steps)
        self.bytes_per_row_ += len(self._grid.encode(rows, predictions)) / len(rows)

    def _integers(self, latents: FloatArray) -> FloatArray:
        u = self._quantizer.coordinates(latents)
        return rounded(u, self._tables if self._weighs_bits else [])

    @property
    def _n_features(self) -> int:
        return int(np.prod(self._layout.shape))

    def _mark(self) -> bytes:
        model = self.estimator_
        if isinstance(model, BaseAutoencoder):
            model = model._model.__getstate__()
            # How it is computed is not what it is.
            model = {k: v for k, v in model.items() if k != "device"}
        return fingerprint(model, self._quantizer, self._tables, self._grid, self._layout)

    def _chunks(self, batches: Iterable[MatrixLike]) -> Iterator[tuple[int, bytes]]:
        length = max(1, min(MOST_ROWS, _CHUNK_VALUES // self._n_features))
        for X in batches:
            X = from_caller(X)
            if X.shape[0] == 0:
                continue
            integers = self._integers(_latents(self.estimator_, X))
            rows = None if self._grid is None else _rows(self.estimator_, X)
            for start in range(0, len(integers), length):
                part = slice(start, start + length)
                data = encode_columns(integers[part], self._tables)
                if rows is not None:
                    residuals = self._encode_residuals(_dense(rows[part]), integers[part])
                    data = len(data).to_bytes(4, "little") + data + residuals
                yield len(integers[part]), data

    def _encode_residuals(self, rows: FloatArray, integers: FloatArray) -> bytes:
        assert self._grid is not None
        return self._grid.encode_points(self._points(rows), self._predictions(integers))

    def _points(self, rows: FloatArray) -> FloatArray:
        """Points of the grid that decode to the rows within ``max_error``."""
        assert self._grid is not None
        steps, is_integer = self._grid.steps, self._layout.is_integer
        if (is_integer & (np.abs(rows.astype(np.float64)) >= 2.0**53)).any():
            raise ValueError(
                "X holds an integer that is too large for max_error: from 2**53 on, not all are "
                "exact in float64. Pass max_error=None."
            )
        points = integers_of(rows, steps)
        beyond = self._is_beyond(points, rows)
        # Where a quotient was rounded, or the decoded float, a neighbor may be nearer.
        for side in (-1, 1):
            if beyond.any():
                moved = points + side * beyond
                still = self._is_beyond(moved, rows)
                points, beyond = np.where(still, points, moved), beyond & still
        if beyond.any():
            self._refuse(rows, points, beyond)
        return points

    def _is_beyond(self, points: FloatArray, rows: FloatArray) -> NDArray[np.bool_]:
        """Which values are off by more than ``max_error``, as they are returned."""
        most = np.inf if self.max_error is None else np.asarray(self.max_error, dtype=np.float64)
        return ~(np.abs(self._returned(points, rows.shape) - rows) <= most)

    def _returned(self, points: FloatArray, shape: tuple[int, ...]) -> FloatArray:
        """What is decoded of points of the grid, in float64."""
        assert self._grid is not None
        # Floats are rounded to their dtype when they are decoded.
        with np.errstate(over="ignore"):
            decoded = self._layout.restored(self._grid.values(points))
        return np.asarray(decoded, dtype=np.float64).reshape(shape)

    def _refuse(self, rows: FloatArray, points: FloatArray, beyond: NDArray[np.bool_]) -> None:
        row, column = np.argwhere(beyond)[0]
        names, decoded = self._layout.dtypes, self._returned(points, rows.shape)
        name = names[column] if len(names) > 1 else names[0]
        if np.broadcast_to(self._layout.is_integer, rows.shape[1:])[column]:
            why = "it is no integer, or out of the range of this dtype. Fit on such data"
        else:
            why = "which holds no value that near to it. Fit on float64"
        raise ValueError(
            f"max_error={self.max_error!r} cannot be kept for the value {rows[row, column]!s} in "
            f"column {column}, which would be decoded as {decoded[row, column]!s}: the training "
            f"data hold {name} there, {why}, or pass a larger max_error."
        )

    def _decoded(self, file: BinaryIO) -> Iterator[FloatArray]:
        check_is_fitted(self)
        for n_rows, data in read_stream(self._mark(), file):
            try:
                yield self._decode_chunk(n_rows, data)
            except ValueError as error:
                raise ValueError(f"The stream is damaged: {error}") from error

    def _decode_chunk(self, n_rows: int, data: bytes) -> FloatArray:
        if self._grid is None:
            integers = decode_columns(data, n_rows, self._tables)
            return _decoded(self.estimator_, self._quantizer.latents(integers))
        end = 4 + int.from_bytes(data[:4], "little")
        integers = decode_columns(data[4:end], n_rows, self._tables)
        return self._grid.decode(data[end:], self._predictions(integers))

    def _predictions(self, integers: FloatArray) -> FloatArray:
        """What the latents say of the rows, in float64: on all machines nearly the same."""
        latents = self._quantizer.latents(integers)
        if not isinstance(self.estimator_, BaseAutoencoder):
            return _decoded(self.estimator_, latents)
        model = self.estimator_._model
        exact = copied(model.network, device=resolve_device("cpu"), dtype=torch.float64)
        return model.with_network(exact).decode(latents)


def _fitted_quantizer(estimator: Any, latents: FloatArray, step: float) -> Quantizer:
    if latents.shape[1] > _MOST_LATENTS:
        raise ValueError(
            f"The estimator has {latents.shape[1]} latents, and may have {_MOST_LATENTS}. Pass "
            f"one with a bottleneck."
        )
    n_rows = min(_METRIC_ROWS, 1 + _METRIC_COLUMNS // latents.shape[1])
    part = slice(None, None, max(1, len(latents) // n_rows))
    weights = _weights(estimator)
    metric = decoder_metric(lambda z: _decoded(estimator, z), latents[part], weights)
    return fit_quantizer(latents, metric, step)


def _latents(estimator: Any, X: Any) -> FloatArray:
    latents = estimator.transform(X)
    return latents.toarray() if sparse.issparse(latents) else np.asarray(latents)


def _decoded(estimator: Any, latents: FloatArray) -> FloatArray:
    return np.asarray(estimator.inverse_transform(latents)).reshape(len(latents), -1)


def _rows(estimator: Any, X: Any) -> Any:
    """Rows as an array of numbers or a CSR matrix."""
    if isinstance(estimator, BaseAutoencoder):
        if estimator._table.categories:
            raise ValueError(
                f"estimator={estimator!r} was fitted on a table with categories, but a codec takes "
                f"numbers alone. Pass integers in place of text, and categorical_features=None."
            )
        return estimator._check_X(X)
    return check_array(X, accept_sparse="csr", dtype="numeric")


def _dense(rows: Any) -> FloatArray:
    (_, dense), *_ = dense_chunks(rows, max(1, rows.shape[0]))
    return dense


def _weights(estimator: Any) -> Any:
    """What an error counts in each feature: the scaled one."""
    if not isinstance(estimator, BaseAutoencoder):
        return 1.0
    scaler = estimator._model.scaler
    return 1.0 / scaler.scale if isinstance(scaler, AffineScaler) else 1.0
