"""What a fit on several workers refuses: whatever would depend on where the rows are."""

from typing import Any

import torch
from torch import nn

from skae._networks.factory import initialize
from skae._networks.modules import ModuleNetwork, ModuleSpec


def check_parts_from_anywhere(estimator: Any) -> None:
    """Refuse parameters by which a row counts differently among other rows of its worker.

    Raises
    ------
    ValueError
    """
    _check_noise(getattr(estimator, "noise", None))
    if estimator._table.categories:
        column = estimator._table.categories[0].column
        raise ValueError(
            f"Column {column} of X is a category, whose values a worker knows in part. Pass one "
            f"column for each value: dask.dataframe.get_dummies(X.categorize()), say."
        )
    if getattr(estimator, "patch_size", None) is not None:
        raise ValueError(
            f"patch_size={estimator.patch_size!r} draws patches from images in memory. Pass "
            f"patch_size=None, or patches as a Dask array."
        )
    spec = estimator._network_spec(estimator.n_features_in_)
    if getattr(spec, "normalization", None) == "batch":
        _refuse(f"normalization={estimator.normalization!r}")
    if isinstance(spec, ModuleSpec):
        network = initialize(spec, (0,), torch.float32, torch.device("cpu"))
        assert isinstance(network, ModuleNetwork)
        _check_modules(network.pair, estimator)


def _check_noise(noise: Any) -> None:
    for kind in noise if isinstance(noise, tuple) else (noise,):
        if callable(kind) or kind == "swap":
            raise ValueError(
                f"noise={kind!r} may take values from other rows of a batch, of which a worker "
                f"has only some. Pass 'masking', 'gaussian' or 'salt_and_pepper'."
            )


def _check_modules(pair: nn.Module, estimator: Any) -> None:
    for module in pair.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            _refuse(f"network={estimator.network!r} with {type(module).__name__}")
        if isinstance(module, nn.modules.dropout._DropoutNd):
            raise ValueError(
                f"network={estimator.network!r} has {type(module).__name__}, whose draws depend on "
                f"the rows of a worker. Pass a network without it (dropout=0)."
            )


def _refuse(what: str) -> None:
    raise ValueError(
        f"{what} normalizes by the rows of a batch, of which a worker has only some. Pass "
        f"normalization='layer' or None."
    )
