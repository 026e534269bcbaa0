"""Densities of latents, from which new ones are drawn."""

import copy
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn import config_context
from sklearn.base import clone

from skae._runtime.tuning import MIXTURE_SIZES, ROWS_OF_A_COMPONENT

# What is fitted in less time than it takes to keep the latents for later.
QUICK = ("gaussian", "prior")

# Share of the mean variance that is added to each variance, so that no component is singular.
_RIDGE = 1e-6

# Latents beyond are of rows that overflow.
_FAR = 1e30


class Mixture(NamedTuple):
    """Normal distributions, each drawn from with its probability.

    Attributes
    ----------
    weights : ndarray of shape (k,)
        Probabilities.
    means : ndarray of shape (k, n_latents)
    factors : ndarray of shape (k, n_latents, n_latents)
        Lower triangular; times their transposes they are the covariances.
    """

    weights: np.ndarray
    means: np.ndarray
    factors: np.ndarray

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        which = rng.choice(len(self.weights), size=n, p=self.weights / self.weights.sum())
        drawn = rng.standard_normal((n, self.means.shape[1]))
        for k, (mean, factor) in enumerate(zip(self.means, self.factors, strict=True)):
            drawn[which == k] = mean + drawn[which == k] @ factor.T
        return drawn

    def truncated(self, size: int) -> "Mixture":
        """Of the first latents alone."""
        return Mixture(self.weights, self.means[:, :size], self.factors[:, :size, :size])


class Pending:
    """A density that is fitted when it is first asked for; copies of it share what was fitted.

    Parameters
    ----------
    fit : callable
        Returns the density, always the same: two threads may call it at a time.
    """

    def __init__(self, fit: Callable[[], Any]):
        self._fit: Callable[[], Any] | None = fit
        self._density: Any = None

    def density(self) -> Any:
        if (fit := self._fit) is not None:
            self._density = fit()
            self._fit = None
        return self._density

    def then(self, change: Callable[[Any], Any]) -> "Pending":
        """What a function makes of the density, also when it is first asked for."""
        return Pending(lambda: change(self.density()))

    def __copy__(self) -> "Pending":
        return self

    def __deepcopy__(self, memo: Any) -> "Pending":
        return self


def fit_density(kind: Any, Z: np.ndarray, weights: np.ndarray | None, seed: int) -> Any:
    """Fit a density on latents.

    Parameters
    ----------
    kind : {"auto", "gaussian", "gmm", "prior"} or estimator with ``fit`` and ``sample``
    Z : ndarray of shape (n, n_latents)
    weights : ndarray of shape (n,) or None
        Latents are drawn in proportion to them.
    seed : int

    Returns
    -------
    density : Mixture, estimator, or None if no latents are finite
    """
    rng = np.random.default_rng(seed)
    Z = Z.astype(np.float64)
    if weights is not None:
        Z = Z[rng.choice(len(Z), size=len(Z), p=weights / weights.sum())]
    Z = Z[(np.abs(Z) < _FAR).all(axis=1)]
    if not len(Z):
        return None
    # Whatever the caller's setting: likelihoods far out are zero.
    with np.errstate(under="ignore"):
        if not isinstance(kind, str):
            return _seeded(clone(kind), rng).fit(Z)
        return _KINDS[kind](Z, rng)


def draw(density: Any, n: int, rng: np.random.Generator) -> np.ndarray:
    """Latents drawn from what :func:`fit_density` returned, (n, n_latents)."""
    if isinstance(density, Mixture):
        return density.draw(n, rng)
    if "random_state" in inspect.signature(density.sample).parameters:
        drawn = density.sample(n, random_state=_seed(rng))
    else:
        # Its parameter would give the same latents at each call.
        drawn = _seeded(copy.copy(density), rng).sample(n)
    return np.asarray(drawn[0] if isinstance(drawn, tuple) else drawn)


def _prior(Z: np.ndarray, rng: np.random.Generator) -> Mixture:
    """What a variational autoencoder presses the latents towards."""
    return Mixture(np.ones(1), np.zeros((1, Z.shape[1])), np.eye(Z.shape[1])[None])


def _gaussian(Z: np.ndarray, rng: np.random.Generator) -> Mixture:
    mean = Z.mean(axis=0)
    covariance = (Z - mean).T @ (Z - mean) / len(Z)
    ridge = _RIDGE * covariance.trace() / len(mean) + np.finfo(np.float32).tiny
    factor = np.linalg.cholesky(covariance + ridge * np.eye(len(mean)))
    return Mixture(np.ones(1), mean[None], factor[None])


def _gmm(Z: np.ndarray, rng: np.random.Generator) -> Mixture:
    from sklearn.mixture import GaussianMixture

    if len(Z) == 1:
        return _gaussian(Z, rng)
    mean, deviation = Z.mean(axis=0), Z.std(axis=0)
    # Of equal numbers it may be rounding, which is not to be blown up.
    deviation[deviation <= np.finfo(np.float32).eps * np.abs(mean)] = 1.0
    Z = (Z - mean) / deviation
    # Many iterations, after which it has converged: scikit-learn would warn.
    options = {"max_iter": 1000, "tol": 1e-2, "reg_covar": 1e-4, "init_params": "k-means++"}
    best, least, n_worse = None, np.inf, 0
    for size in MIXTURE_SIZES:
        if n_worse == 2 or (size > 1 and len(Z) < ROWS_OF_A_COMPONENT * size):
            break
        mixture = GaussianMixture(size, random_state=_seed(rng), **options)
        # Where scikit-learn dispatches to other arrays, it refuses this start.
        with config_context(array_api_dispatch=False):
            mixture.fit(Z)
        n_worse += 1
        if (criterion := mixture.bic(Z)) < least:
            best, least, n_worse = mixture, criterion, 0
    assert best is not None
    factors = np.linalg.cholesky(best.covariances_)
    means = best.means_ * deviation + mean
    return Mixture(best.weights_, means, factors * deviation[:, None])


_KINDS = {"auto": _gmm, "gaussian": _gaussian, "gmm": _gmm, "prior": _prior}


def _seeded(estimator: Any, rng: np.random.Generator) -> Any:
    if hasattr(estimator, "random_state"):
        estimator.set_params(random_state=_seed(rng))
    return estimator


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31 - 1))
