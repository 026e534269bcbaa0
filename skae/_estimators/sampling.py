"""New rows: drawn from a density of the latents, or on the way from one row to another."""

import copy
import functools
from numbers import Integral
from typing import Any, Self, cast

import numpy as np
from scipy import sparse
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from skae._data.columns import Ranges
from skae._data.margins import Margins
from skae._data.streamed import block_length, sampled
from skae._data.types import FloatArray, MatrixLike, Output, RandomState
from skae._estimators.base import BaseAutoencoder
from skae._estimators.fitting import Prepared
from skae._estimators.inputs import weighted_rows
from skae._estimators.output import like_training_rows
from skae._model.density import QUICK, Mixture, Pending, draw, fit_density
from skae._runtime.randomness import DENSITY_STREAM, draw_seed
from skae._runtime.tuning import DENSITY_ROWS, MARGIN_DRAWS, QUICK_DENSITY_ROWS

# Numbers of rows that margins are learned from, at most.
_MARGIN_VALUES = 1 << 22


class SamplingAutoencoder(BaseAutoencoder):
    """What makes rows out of latents that no row was encoded to; not for use by itself."""

    _fitted_types = {
        **BaseAutoencoder._fitted_types,
        "_density": Mixture | None,
        "_ranges": Ranges,
    }

    latent_density: Any
    _density: Any
    _ranges: Ranges

    def sample(self, n_samples: int = 1, random_state: RandomState = None) -> Output:
        """Draw new rows.

        Latents are drawn from the density, and decoded.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            Seed of the draws; None takes fresh entropy.

        Returns
        -------
        X : ndarray or DataFrame of shape (n_samples, n_features_in_), or images
            Rows like the training rows: in their units, dtypes and, column by column,
            within the range seen; whole numbers where a column held no others. A
            DataFrame if ``set_output`` asks for one.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If there is no density of the latents (``network="unet"``, or a truncated
            copy whose density is an estimator of your own).
        """
        check_is_fitted(self)
        n_samples = _count("n_samples", n_samples, 1)
        self._settle()
        if self._density is None:
            raise ValueError(
                f"There is no density of the {self.n_components_} latents to sample from. Use a "
                f"network with a bottleneck, or fit a density with fit_density."
            )
        rng = np.random.default_rng(draw_seed(random_state))
        drawn = self._decoded_draws(n_samples, rng)
        if (margins := self._ranges.margins) is not None:
            n_drawn = min(MARGIN_DRAWS, max(1, _MARGIN_VALUES // self._table.width))
            own = Margins.of(self._decoded_draws(n_drawn, np.random.default_rng(0)), self._n_units)
            drawn = own.moved(drawn, margins, self._table.sizes, rng)
        return self._restored(drawn)

    def interpolate(self, a: MatrixLike, b: MatrixLike, steps: int = 10) -> Output:
        """Rows on the straight way from one row to another, in the latents.

        Parameters
        ----------
        a : array-like or DataFrame of shape (n_samples, n_features), or images
            Where the ways begin.
        b : array-like or DataFrame of the shape of ``a``
            Where they end.
        steps : int, default=10
            Rows on each way, ends included; at least 2.

        Returns
        -------
        X : ndarray or DataFrame of shape (n_samples * steps, n_features_in_), or images
            One way after another, as :meth:`sample` gives rows. The ends are
            reconstructions of ``a`` and ``b``.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``a`` and ``b`` differ in their number of rows, have other columns than the
            training rows, or if ``steps`` is less than 2.
        """
        check_is_fitted(self)
        steps = _count("steps", steps, 2)
        first, last = (self._model.encode(self._check_X(rows)) for rows in (a, b))
        if first.shape != last.shape:
            raise ValueError(
                f"a has {len(first)} rows and b {len(last)}. Pass as many of one as of the other."
            )
        share = np.linspace(0, 1, steps, dtype=first.dtype)[:, None]
        ways = (1 - share) * first[:, None] + share * last[:, None]
        return self._restored(self._model.decode(ways.reshape(-1, first.shape[1])))

    def fit_density(self, X: MatrixLike, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit the density of the latents on other rows, without training.

        :meth:`sample` then draws rows like these: those of one class, say.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``latent_density`` is "prior", or ``X`` has other columns than the training
            rows.
        """
        check_is_fitted(self)
        self._validate_params()
        if isinstance(self.latent_density, str) and self.latent_density == "prior":
            raise ValueError(
                "latent_density='prior' is not fitted. Set latent_density='gmm', say, before."
            )
        rows, weights = weighted_rows(self._check_X(X), sample_weight)
        self._fit_density(rows, weights, draw_seed(self.random_state))
        return self

    def __copy__(self) -> Self:
        # Not by way of a pickle, which would fit the density: copies share what is pending.
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        memo[id(self)] = copied = type(self).__new__(type(self))
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied

    def __getstate__(self) -> dict[str, Any]:
        # A pickle holds what was learned from rows, and does not grow with their number.
        self._settle()
        return cast(dict[str, Any], super().__getstate__())

    def _keep(self, prepared: Prepared, append: bool = False) -> None:
        earlier = self._ranges if append else None
        super()._keep(prepared, append)
        self._choose_latents(prepared)
        X, weights = self._learned_from(prepared, append)
        self._fit_density(X, weights, prepared.job.plan.seeds[0])
        if earlier is not None:
            self._ranges = earlier.united(self._ranges)

    def _choose_latents(self, prepared: Prepared) -> None:
        """Which of the trained latents are kept: all, unless the estimator says otherwise."""

    def _fit_density(self, X: Any, weights: FloatArray | None, seed: int) -> None:
        place = block_length(X, self._model.dtype, 1), seed, DENSITY_STREAM
        X, weights = sampled(X, weights, DENSITY_ROWS, *place)
        kind = self.latent_density
        kind = kind if isinstance(kind, str) else clone(kind)
        self._density, self._ranges = None, Ranges.of(X, self._n_units)
        if self._is_table():
            rows = self._some_rows(X, weights, seed)
            margins = Margins.of(rows, self._n_units)
            residuals = Margins.of(rows - self._model.reconstruct(rows), self._n_units)
            self._ranges = self._ranges._replace(margins=margins, residuals=residuals)
        if self._has_bottleneck():
            if isinstance(kind, str) and kind == "auto":
                X, weights = sampled(X, weights, QUICK_DENSITY_ROWS, *place)
            arguments = kind, self._model.encode(X), weights, seed
            self._density = Pending(functools.partial(fit_density, *arguments))
        if kind in QUICK:
            self._settle()

    def _settle(self) -> None:
        # Who draws no rows pays for no mixture. Two threads at a time find the same one.
        if isinstance(density := getattr(self, "_density", None), Pending):
            self._density = density.density()

    def _is_table(self) -> bool:
        """Whether each column is a quantity of its own: no pixel, and no step of a signal."""
        looks_like_pixels = getattr(self._model.scaler, "limits", None) is not None
        return self._input.image_shape is None and not looks_like_pixels

    def _some_rows(self, X: Any, weights: FloatArray | None, seed: int) -> np.ndarray:
        """Rows that margins are learned from, drawn in proportion to their weights."""
        size = min(X.shape[0], max(1, _MARGIN_VALUES // X.shape[1]))
        p = None if weights is None else weights / weights.sum()
        some = np.random.default_rng(seed).choice(X.shape[0], size, replace=p is not None, p=p)
        rows = X[np.sort(some)]
        return rows.toarray() if sparse.issparse(rows) else np.asarray(rows)

    def _decoded_draws(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Decoded latents from the density, and what reconstructions lack of rows."""
        drawn = self._model.decode(draw(self._density, n, rng)).astype(np.float64)
        if (residuals := self._ranges.residuals) is not None:
            n_numbers = drawn.shape[1] - self._n_units
            drawn[:, :n_numbers] += residuals.drawn(n, rng)
        return drawn

    @property
    def _n_units(self) -> int:
        return sum(self._table.sizes)

    def _has_bottleneck(self) -> bool:
        return True

    def _restored(self, decoded: np.ndarray) -> Output:
        """Decoded rows as rows like those in the training."""
        return like_training_rows(self, self._ranges, decoded)


def _count(name: str, value: Any, least: int) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}={value!r} must be a whole number of at least {least}.")
    return int(value)
