"""Fits that survive a kill: where training stands, in a safe file after every few epochs.

The rest follows from parameters and data: held-out rows, noise and batches come
from the seed and the number of the epoch. So a checkpoint holds weights, moments, counts
and losses alone, and a fingerprint of what the fit began with.
"""

import hashlib
import os
from numbers import Integral
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import numpy as np
import torch
from torch import Tensor

from skae._estimators.base import BaseAutoencoder
from skae._files import records
from skae._files.container import Reader, write
from skae._networks.factory import arrays_of
from skae._training.job import Job
from skae._training.monitor import SavedMonitor
from skae._training.plan import SavedState, TrainState
from skae.io import stored_parameters, versions

__all__ = ["resumable_fit"]

FORMAT = 1

# Parameters that do not change what is trained.
_FREE = ("device", "verbose", "warm_start")

Estimator = TypeVar("Estimator", bound=BaseAutoencoder)


class _Standing(TypedDict):
    """Where a training run stands."""

    epoch: int
    network: dict[str, np.ndarray]
    training: SavedState
    monitor: SavedMonitor


def resumable_fit(
    estimator: Estimator,
    X: Any,
    path: str | os.PathLike[str],
    *,
    every: int = 1,
    y: Any = None,
    sample_weight: Any = None,
) -> Estimator:
    """Fit an estimator, and go on where an earlier call was killed.

    Called again with the same parameters and data, it gives the same bits as one call
    that nothing interrupted. The file stays when the fit ends; it holds an epoch before
    the last one. Remove it, and :func:`skae.io.save` the estimator.

    Parameters
    ----------
    estimator : AutoencoderTransformer, DenoisingAutoencoder or AutoencoderAnomalyDetector
        With an integer as ``random_state``.
    X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
        Training rows, as for ``fit``.
    path : str or path-like
        The checkpoint: read if it is there, then replaced after every few epochs.
    every : int, default=1
        Epochs from one checkpoint to the next.
    y : None
        Ignored; callbacks see it.
    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each row.

    Returns
    -------
    estimator : object
        The fitted estimator itself.

    Raises
    ------
    ValueError
        If the file is damaged, is no checkpoint, or is one of other parameters or data;
        if a parameter is code or ``random_state`` no integer; and as ``fit`` does.
    OSError
        If the file cannot be read or written.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderTransformer
    >>> from skae.checkpoints import resumable_fit
    >>> X, _ = load_iris(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(n_components=2, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     autoencoder = resumable_fit(autoencoder, X, f"{folder}/run.safetensors", every=20)
    >>> bool((autoencoder.transform(X) == autoencoder.fit(X).transform(X)).all())
    True
    """
    if not isinstance(every, Integral) or isinstance(every, bool) or every < 1:
        raise ValueError(f"every={every!r} must be a number of epochs, 1 or more.")
    if not isinstance(estimator.random_state, Integral):
        raise ValueError(
            f"random_state={estimator.random_state!r} cannot be drawn again after a kill. Pass an "
            f"integer."
        )
    run = {"class": type(estimator).__name__, "parameters": stored_parameters(estimator)}
    for name in _FREE:
        del run["parameters"][name]

    def record(job: Job) -> None:
        checkpoint = _Checkpoint(Path(path), run | {"data": _fingerprint(job)}, job, int(every))
        checkpoint.resume()
        job.monitor.recorder = checkpoint.record

    estimator._fit_recorded(X, y, sample_weight, record)
    return estimator


class _Checkpoint:
    """The file of one run."""

    def __init__(self, path: Path, run: dict[str, Any], job: Job, every: int):
        self._path, self._run, self._job, self._every = path, run, job, every

    def record(self) -> None:
        job = self._job
        if job.state.epoch % self._every or not bool(job.network.parameters.isfinite().all()):
            return
        standing: _Standing = {
            "epoch": job.state.epoch,
            "network": arrays_of(job.network.state()),
            "training": job.state.to_arrays(),
            "monitor": job.monitor.to_arrays(),
        }
        arrays: dict[str, np.ndarray] = {}
        tree = records.encode(_Standing, standing, "standing", arrays)
        kept = {"checkpoint": FORMAT, "run": self._run, "standing": tree, "versions": versions()}
        write(self._path, kept, arrays)

    def resume(self) -> None:
        """Bring network, state and monitor to where the file says, if there is one."""
        if not os.path.lexists(self._path):
            return
        try:
            with Reader(self._path) as reader:
                self._check_run(reader.settings)
                standing = self._standing(reader)
        except (ValueError, LookupError) as error:
            raise ValueError(
                f"{self._path} is no checkpoint to go on from: {error} Remove it to begin again."
            ) from error
        job = self._job
        options: dict[str, Any] = {"device": job.network.device}
        job.network.load_state(
            {k: torch.tensor(v, **options) for k, v in standing["network"].items()}
        )
        restored = TrainState.from_arrays(standing["training"], job.network.parameters)
        vars(job.state).update(vars(restored), epoch=standing["epoch"])
        job.monitor.restore(standing["monitor"])

    def _check_run(self, settings: dict[str, Any]) -> None:
        if settings.get("checkpoint") != FORMAT or type(settings.get("run")) is not dict:
            raise ValueError("it is none that this version of skae writes.")
        given, kept = _flat(self._run), _flat(settings["run"])
        others = sorted(k for k in given.keys() | kept.keys() if given.get(k) != kept.get(k))
        if others == ["data"]:
            raise ValueError("it was begun with other rows, weights or a fitted estimator.")
        changes = [f"{k} was {str(kept.get(k))[:80]}, is {str(given.get(k))[:80]}" for k in others]
        if changes:
            raise ValueError(f"{'; '.join(changes)}.")

    def _standing(self, reader: Reader) -> _Standing:
        arrays = reader.arrays()
        standing = records.decode(_Standing, reader.settings["standing"], "standing", arrays)
        network = arrays_of(self._job.network.state())
        like, weights = _layout(network), _layout({"": network["parameters"]})[""]
        monitor, n_epochs = standing["monitor"], standing["epoch"]
        n_members = self._job.network.n_members
        fits = (
            not arrays
            and _layout(standing["network"]) == like
            and _layout(monitor["best_network"]) in ({}, like)
            and set(_layout(standing["training"]["moments"]).values()) <= {weights}
            and monitor["losses"].shape == (n_epochs, n_members)
            and monitor["validation_losses"].shape in ((0,), (n_epochs, n_members))
            and 0 < n_epochs < self._job.plan.max_epochs
        )
        if not fits:
            raise ValueError("its arrays do not fit the network.")
        return standing


def _flat(run: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in run.items() if k != "parameters"} | dict(run.get("parameters", {}))


def _layout(arrays: dict[str, np.ndarray]) -> dict[str, tuple[Any, ...]]:
    return {name: (array.dtype, array.shape) for name, array in arrays.items()}


def _fingerprint(job: Job) -> str:
    """Of the rows (of some, if they are streamed), their weights and the network at first."""
    digest = hashlib.sha256()
    tensors = [*job.network.state().values(), *job.state.moments.values(), job.rows.known_by()]
    for tensor in [*tensors, job.rows.weights]:
        if isinstance(tensor, Tensor):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().data)
        else:
            digest.update(b"none")
    return digest.hexdigest()
