"""Safe files: fitted estimators as .safetensors, without pickle and without code.

What an estimator stores is declared: its parameters, and the attributes of its table
``_fitted_types``. Reading, the header comes first. Class, parameters, settings and the
shapes of all arrays are checked before the arrays are read.
"""

import copy
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import sklearn
import torch
from sklearn.utils.validation import check_is_fitted

from skae._data.types import Device, NetworkBuilder
from skae._estimators.base import BaseAutoencoder
from skae._estimators.denoiser import DenoisingAutoencoder
from skae._estimators.detector import AutoencoderAnomalyDetector
from skae._estimators.features import AutoencoderFeatures
from skae._estimators.imputer import AutoencoderImputer
from skae._estimators.transformer import AutoencoderTransformer
from skae._estimators.variational import VariationalAutoencoder
from skae._files import records
from skae._files.codec import CodecState, codec_of, shapes_of, state_of
from skae._files.container import Reader, write
from skae._files.model import (
    StoredModel,
    check_arrays,
    check_state,
    check_table,
    must,
    rebuilt,
    stored_model,
)
from skae._runtime.device import resolve_device
from skae._runtime.version import __version__
from skae.codec import LatentCodec

__all__ = ["for_prediction", "load", "save"]

FORMAT = 1

# Name of a codec's class, and of its estimator's arrays.
_CODEC, _INNER = LatentCodec.__name__, "estimator."

_CLASSES: dict[str, type[BaseAutoencoder]] = {
    cls.__name__: cls
    for cls in (
        AutoencoderTransformer,
        DenoisingAutoencoder,
        AutoencoderAnomalyDetector,
        AutoencoderFeatures,
        AutoencoderImputer,
        VariationalAutoencoder,
    )
}


Fitted = TypeVar("Fitted", BaseAutoencoder, LatentCodec)


def save(
    estimator: BaseAutoencoder | LatentCodec,
    path: str | os.PathLike[str],
    *,
    for_training: bool = True,
) -> None:
    """Write a fitted estimator, or a codec, to a safe file.

    The file is written beside the old one, and takes its place when it is complete: a
    save that fails leaves the old file as it was. The same estimator gives the same
    bytes.

    Parameters
    ----------
    estimator : one of the estimators of this package, or a LatentCodec of one
        Fitted. Pipelines and scikit-learn's own estimators go through skops or joblib. Of
        a codec the trained-on ``estimator_`` is kept, not the ``estimator`` it began with.
    path : str or path-like
        Where to; by custom it ends in ``.safetensors``.
    for_training : bool, default=True
        Whether the loaded estimator can go on training. The optimizer's state, which this
        takes, is up to twice as large as the weights.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ValueError
        If it is of another class, or holds code: a callable ``noise``, a transformer
        as ``scaling``, a ``RandomState``. A callable ``network`` is left out of the
        file, and given to :func:`load` again.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderTransformer
    >>> from skae.io import load, save
    >>> X, _ = load_iris(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(n_components=2, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(autoencoder, f"{folder}/iris.safetensors")
    ...     loaded = load(f"{folder}/iris.safetensors")
    >>> bool((loaded.transform(X) == autoencoder.transform(X)).all())
    True
    """
    arrays: dict[str, np.ndarray] = {}
    if not for_training:
        estimator = for_prediction(estimator)
    stored = _stored_codec if type(estimator) is LatentCodec else _stored
    settings = {"format": FORMAT, "versions": versions()} | stored(estimator, arrays)
    write(Path(path), settings, arrays)


def for_prediction(estimator: Fitted) -> Fitted:
    """A fitted copy without what only further training needs: the optimizer's state, some rows.

    It predicts the same bits, and its pickle is up to three times smaller. ``partial_fit``
    and ``fit`` with ``warm_start=True`` are errors; a new ``fit`` is not.

    Parameters
    ----------
    estimator : one of the estimators of this package, or a LatentCodec of one
        Fitted; it stays as it is. The copy shares its arrays.

    Returns
    -------
    copy : object
        Of the same class, with the same parameters.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it is of another class, a pipeline say.

    Examples
    --------
    >>> import pickle
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderTransformer
    >>> from skae.io import for_prediction
    >>> autoencoder = AutoencoderTransformer(n_components=2).fit(load_iris().data)
    >>> len(pickle.dumps(for_prediction(autoencoder))) < len(pickle.dumps(autoencoder)) / 2
    True
    """
    if not isinstance(estimator, (BaseAutoencoder, LatentCodec)):
        raise TypeError(
            f"estimator={estimator!r} is none of this package. Pass that step of a pipeline."
        )
    check_is_fitted(estimator)
    smaller = copy.copy(estimator)
    if isinstance(smaller, LatentCodec):
        if isinstance(smaller.estimator_, BaseAutoencoder):
            smaller.estimator_ = for_prediction(smaller.estimator_)
    else:
        for name in ("_train_state", "_recent"):
            smaller.__dict__.pop(name, None)
    return smaller


def load(
    path: str | os.PathLike[str],
    *,
    network: NetworkBuilder | None = None,
    device: Device = "auto",
) -> BaseAutoencoder | LatentCodec:
    """Read an estimator, or a codec, from a safe file.

    Nothing that stands in the file is executed or imported. The checksum in the file
    finds damage, not forgery: whoever can write the file can write a checksum.

    Parameters
    ----------
    path : str or path-like
        A file that :func:`save` wrote.
    network : callable, default=None
        The ``network`` that the estimator was fitted with, if it was your own.
    device : str or torch.device, default="auto"
        Device for the network, as of the estimators.

    Returns
    -------
    estimator : one of the estimators of this package, or a LatentCodec
        Fitted, with the parameters, predictions and, if it was kept, training state of the
        saved one.

    Raises
    ------
    ValueError
        If the file is damaged, is no such file, or was written in another format, or if
        ``network`` builds another architecture.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderTransformer
    >>> from skae.io import load, save
    >>> X, _ = load_iris(return_X_y=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(AutoencoderTransformer(n_components=2).fit(X), f"{folder}/iris.safetensors")
    ...     loaded = load(f"{folder}/iris.safetensors", device="cpu")
    >>> loaded.n_components_
    2
    """
    target = str(resolve_device(device))
    try:
        with Reader(Path(path)) as reader:
            return _loaded(reader, network, target)
    except (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError) as error:
        reason = str(error).split("\n")[0][:500]
        raise ValueError(f"{os.fspath(path)} cannot be loaded: {reason}") from error


def _loaded(
    reader: Reader, network: NetworkBuilder | None, device: str
) -> BaseAutoencoder | LatentCodec:
    settings = reader.settings
    _check_format(settings)
    # Arrays of the right shapes that take no memory: whatever is wrong is found before reading.
    planned = {k: np.broadcast_to(np.zeros((), d), s) for k, (d, s) in reader.layout.items()}
    if settings["class"] == _CODEC:
        return _loaded_codec(settings, planned, reader.arrays, network, device)
    estimator = _planned(settings, planned, network)
    return _filled(estimator, settings, reader.arrays(), network, device)


def _planned(
    settings: dict[str, Any], planned: dict[str, np.ndarray], network: NetworkBuilder | None
) -> BaseAutoencoder:
    """The estimator without its state, which was checked."""
    name = settings["class"]
    if type(name) is not str or name not in _CLASSES:
        raise ValueError(f"its class {str(name)[:80]!r} is none of {', '.join(_CLASSES)}.")
    parameters = _parameters(_CLASSES[name], settings["parameters"])
    if "network" in set(_CLASSES[name]._get_param_names()) - parameters.keys():
        parameters["network"] = "auto" if network is None else network
    estimator = _CLASSES[name](**parameters)
    estimator._validate_params()
    check_state(_state(estimator, settings["fitted"], planned), network)
    return estimator


def _filled(
    estimator: BaseAutoencoder,
    settings: dict[str, Any],
    arrays: dict[str, np.ndarray],
    network: NetworkBuilder | None,
    device: str,
) -> BaseAutoencoder:
    state = _state(estimator, settings["fitted"], arrays)
    check_table(state["_table"], state["n_features_in_"])
    state["_model"] = rebuilt(state["_model"], network, device)
    for attribute, value in state.items():
        setattr(estimator, attribute, value)
    return estimator


def versions() -> dict[str, str]:
    return {
        "skae": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "torch": str(torch.__version__),
    }


def _check_format(settings: dict[str, Any]) -> None:
    if "checkpoint" in settings:
        raise ValueError(
            "it is the checkpoint of a fit that did not end. Pass it to "
            "skae.checkpoints.resumable_fit, with the same data."
        )
    written = settings.get("format")
    if type(written) is int and written != FORMAT:
        versions = settings.get("versions")
        by = versions.get("skae") if type(versions) is dict else None
        raise ValueError(
            f"it is of format {str(written)[:80]}, written by skae {str(by)[:80]}; this is skae "
            f"{__version__}, which reads format {FORMAT}. Install the version that wrote it."
        )
    expected = {"format", "class", "parameters", "fitted", "versions"}
    if type(written) is not int or settings.keys() != expected:
        raise ValueError(f"its settings must be {sorted(expected)}.")


# Parameters of the constructor.


def stored_parameters(estimator: BaseAutoencoder) -> dict[str, Any]:
    parameters = estimator.get_params(deep=False)
    if callable(parameters.get("network")):
        del parameters["network"]
    return {name: _plain(name, value) for name, value in parameters.items()}


def _plain(name: str, value: Any) -> Any:
    """A parameter as JSON; a tuple is told from a list."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, torch.device):
        value = str(value)
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (list, np.ndarray)):
        return [_plain(name, item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_plain(name, item) for item in value]}
    if type(value) is dict:
        return {"pairs": [_plain(name, [key, item]) for key, item in value.items()]}
    raise ValueError(
        f"{name}={value!r} is code, which a safe file cannot hold. Pass a number or one of the "
        f"named options, or save with skops or joblib."
    )


def _unplain(value: Any) -> Any:
    if type(value) is dict and value.keys() == {"tuple"} and type(value["tuple"]) is list:
        return tuple(_unplain(item) for item in value["tuple"])
    if type(value) is dict and value.keys() == {"pairs"} and type(value["pairs"]) is list:
        pairs = _unplain(value["pairs"])
        if all(type(pair) is list and [*map(type, pair)][:1] in ([str], [int]) for pair in pairs):
            return {pair[0]: pair[-1] for pair in pairs}
    if type(value) is list:
        return [_unplain(item) for item in value]
    if type(value) is dict:
        raise ValueError(f"a parameter is a table, {str(value)[:80]}.")
    return value


def _parameters(cls: Any, stored: Any) -> dict[str, Any]:
    known = cls._get_param_names()
    if type(stored) is not dict or (unknown := stored.keys() - set(known)):
        unknown = unknown if type(stored) is dict else stored
        raise ValueError(f"{cls.__name__} has no parameters {str(unknown)[:80]}.")
    return {name: _unplain(value) for name, value in stored.items()}


# What a fit leaves behind.


def _stored(estimator: BaseAutoencoder, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    name = type(estimator).__name__
    if _CLASSES.get(name) is not type(estimator):
        what = "what its to_local() returns, or" if hasattr(estimator, "to_local") else "it"
        raise ValueError(
            f"estimator={estimator!r} is none of skae's {', '.join(_CLASSES)}. Save {what} "
            f"with skops or joblib."
        )
    check_is_fitted(estimator)
    estimator._validate_params()
    estimator._settle()
    parameters = stored_parameters(estimator)
    return {"class": name, "parameters": parameters, "fitted": _stored_state(estimator, arrays)}


def _stored_codec(codec: LatentCodec, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    check_is_fitted(codec)
    inner: dict[str, np.ndarray] = {}
    state, stored = state_of(codec), _stored(codec.estimator_, inner)
    arrays.update({_INNER + name: array for name, array in inner.items()})
    parameters = {k: _plain(k, v) for k, v in codec.get_params(False).items() if k != "estimator"}
    fitted = {"estimator": stored, "codec": records.encode(CodecState, state, "codec", arrays)}
    return {"class": _CODEC, "parameters": parameters, "fitted": fitted}


def _loaded_codec(
    settings: dict[str, Any],
    planned: dict[str, np.ndarray],
    read: Callable[[], dict[str, np.ndarray]],
    network: NetworkBuilder | None,
    device: str,
) -> LatentCodec:
    parameters, fitted = _parameters(LatentCodec, settings["parameters"]), settings["fitted"]
    keys = {"estimator", "codec"}
    must(type(fitted) is dict and fitted.keys() == keys, f"what was fitted must be {sorted(keys)}")
    stored = fitted["estimator"]
    keys = {"class", "parameters", "fitted"}
    must(type(stored) is dict and stored.keys() == keys, f"its estimator must be {sorted(keys)}")
    own, inner = _parted(planned)
    estimator = _planned(stored, inner, network)
    n_latents, n_features = (stored["fitted"][k] for k in ("n_components_", "n_features_in_"))
    for arrays, shapes, kinds in shapes_of(_codec_state(fitted, own), n_latents, n_features):
        check_arrays(arrays, shapes, kinds)
    own, inner = _parted(read())
    estimator = _filled(estimator, stored, inner, network, device)
    return codec_of(estimator, parameters, _codec_state(fitted, own))


def _codec_state(fitted: dict[str, Any], arrays: dict[str, np.ndarray]) -> CodecState:
    state = records.decode(CodecState, fitted["codec"], "codec", arrays)
    must(not arrays, f"it holds arrays that nothing asks for, {str(list(arrays))[:80]}")
    return state


def _parted(arrays: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays of a codec, and those of its estimator."""
    own = {k: v for k, v in arrays.items() if not k.startswith(_INNER)}
    return own, {k.removeprefix(_INNER): v for k, v in arrays.items() if k.startswith(_INNER)}


def _stored_state(estimator: BaseAutoencoder, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    state = {name: value for name, value in vars(estimator).items() if name in _types(estimator)}
    state["_model"] = stored_model(state["_model"])
    types = _types(estimator)
    return {name: records.encode(types[name], v, name, arrays) for name, v in state.items()}


def _state(
    estimator: BaseAutoencoder, stored: Any, arrays: dict[str, np.ndarray]
) -> dict[str, Any]:
    types = _types(estimator)
    optional = {
        "feature_names_in_",
        "explained_variance_ratio_",
        "_sklearn_output_config",
        "_train_state",
        "_recent",
    }
    if type(stored) is not dict or not types.keys() - optional <= stored.keys() <= types.keys():
        raise ValueError(f"what was fitted must be {sorted(types)}.")
    rest = dict(arrays)
    state = {k: records.decode(types[k], tree, k, rest) for k, tree in stored.items()}
    must(not rest, f"it holds arrays that nothing asks for, {str(list(rest))[:80]}")
    return state


def _types(estimator: BaseAutoencoder) -> dict[str, Any]:
    return estimator._fitted_types | {"_model": StoredModel}
