"""Save fitted estimators to safe files, and load them: arrays and JSON, no code.

A file is in the safetensors format. One entry of its metadata holds the class,
parameters and fitted state as canonical JSON, in which every array is named, and a
SHA-256 over it and all arrays. The reader below takes nothing on trust: it checks
sizes before it reads, and builds only what is in its tables. The checksum finds
corruption; whoever can change the file can change the checksum too.
"""

import contextlib
import hashlib
import json
import math
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import sklearn
import torch
from sklearn.utils.validation import check_is_fitted

import skae
from skae._base import BaseAutoencoder
from skae._denoiser import DenoisingAutoencoder
from skae._detector import AutoencoderAnomalyDetector
from skae._transformer import AutoencoderTransformer
from skae.data.scale import AffineScaler
from skae.data.spec import InputSpec
from skae.device import resolve_device
from skae.inference import Model
from skae.networks.build import n_values
from skae.networks.conv import ConvBuilder, UnetBuilder
from skae.networks.dense import DenseSpec
from skae.networks.modules import ModuleSpec
from skae.scoring import Scorer, View
from skae.thresholds import Typical

FORMAT = 1

# All that a file may name.
_CLASSES = {
    cls.__name__: cls
    for cls in (AutoencoderTransformer, DenoisingAutoencoder, AutoencoderAnomalyDetector)
}
_RECORDS: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        *(AffineScaler, InputSpec, DenseSpec, ModuleSpec, ConvBuilder, UnetBuilder),
        *(Scorer, View, Typical),
    )
}
_ATTRIBUTES = {
    *("_input", "_model", "_train_state", "_seeds", "_scorer", "_typical"),
    *("n_features_in_", "feature_names_in_", "n_components_", "n_estimators_", "n_iter_"),
    *("loss_curve_", "validation_loss_curve_", "best_loss_", "offset_"),
}
_DTYPES = {"F32": np.float32, "F64": np.float64, "I64": np.int64, "BOOL": np.bool_}
_CODES = {np.dtype(dtype).name: code for code, dtype in _DTYPES.items()}

_MOST_HEADER_BYTES = 1 << 20

# Stands for a callable in the JSON; the user passes it again.
_CALLABLE = {"callable": True}


def save(estimator: BaseAutoencoder, path: str | os.PathLike) -> None:
    """Save a fitted estimator to a ``.safetensors`` file.

    The file is written next to ``path`` and then moved there: an interrupted save
    leaves an older file as it was. The same model gives the same bytes.

    Parameters
    ----------
    estimator : AutoencoderTransformer, DenoisingAutoencoder or AutoencoderAnomalyDetector
        Fitted.
    path : str or path-like
        Where to.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ValueError
        If it holds what is not data: a scikit-learn transformer as ``scaling``, a
        callable as ``noise``, a ``RandomState``. A ``network`` callable is left out, and
        wanted again by :func:`load`.
    ImportError
        If safetensors is not installed (``pip install "skae[files]"``).

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
    try:
        from safetensors.numpy import save as to_bytes
    except ImportError as error:
        raise ImportError(
            'Saving needs safetensors. Install it with: pip install "skae[files]"'
        ) from error
    if type(estimator).__name__ not in _CLASSES or type(estimator) not in _CLASSES.values():
        raise ValueError(
            f"{type(estimator).__name__} cannot be saved, only {', '.join(_CLASSES)}. For "
            f"pipelines use skops."
        )
    check_is_fitted(estimator)
    tensors: dict[str, np.ndarray] = {}
    parameters = estimator.get_params(deep=False)
    state = {k: v for k, v in vars(estimator).items() if k in _ATTRIBUTES}
    tree = {
        "format": FORMAT,
        "class": type(estimator).__name__,
        "parameters": {k: _encoded(v, k, tensors) for k, v in parameters.items()},
        "state": {k: _encoded(v, k, tensors) for k, v in state.items()},
        "versions": {
            "skae": skae.__version__,
            "scikit-learn": sklearn.__version__,
            "torch": torch.__version__.split("+")[0],
            "python": platform.python_version(),
        },
    }
    tree["sha256"] = _digest(tree, tensors)
    _write(Path(path), to_bytes(tensors, {"skae": _canonical(tree)}))


def load(
    path: str | os.PathLike, *, network: Callable | None = None, device: str = "auto"
) -> BaseAutoencoder:
    """Load an estimator that :func:`save` wrote. No code from the file is run.

    Parameters
    ----------
    path : str or path-like
        The file.
    network : callable, default=None
        What the estimator was given as ``network``, if that was a callable.
    device : str, default="auto"
        Device for the network, as of the estimators.

    Returns
    -------
    estimator : AutoencoderTransformer, DenoisingAutoencoder or AutoencoderAnomalyDetector
        As it was when saved: predictions have the same bits on the same device.

    Raises
    ------
    ValueError
        If the file is damaged, not one of ours, of a format that this version does not
        read, or needs its ``network``.
    OSError
        If it cannot be read.
    """
    target = str(resolve_device(device))
    try:
        with open(path, "rb") as file:
            tree, tensors = _read(file)
        return _built(tree, _Decoder(tensors, network, target))
    except OSError:
        raise
    except _Refused as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None
    except Exception as error:
        raise ValueError(
            f"{os.fspath(path)}: not a valid file of a skae estimator ({error!r:.200})."
        ) from error


class _Refused(ValueError):
    """Why a file is not loaded, in the user's words."""


def _encoded(value: Any, name: str, tensors: dict[str, np.ndarray]) -> Any:
    """A value as JSON; arrays go into ``tensors``, under names that lead to them."""

    def encode(part: Any, key: Any) -> Any:
        return _encoded(part, f"{name}.{key}", tensors)

    if value is None or isinstance(value, (str, bool, np.bool_)):
        return bool(value) if isinstance(value, np.bool_) else value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "OU":
        return {"strings": [str(part) for part in value]}
    if isinstance(value, np.ndarray):
        tensors[name] = np.asarray(value, order="C")
        return {"tensor": name}
    if isinstance(value, Model):
        state = value.__getstate__()
        return {"model": {k: encode(v, k) for k, v in state.items() if k != "device"}}
    if type(value) in _RECORDS.values():
        parts = {k: encode(getattr(value, k), k) for k in _field_names(type(value))}
        return {"record": {type(value).__name__: parts}}
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [encode(part, i) for i, part in enumerate(value)]}
    if isinstance(value, dict):
        return {"dict": {str(k): encode(v, k) for k, v in value.items()}}
    if callable(value) and name in ("network", "_model.spec.builder"):
        return _CALLABLE
    raise ValueError(
        f"{name}={value!r} cannot be saved: files hold numbers, strings and arrays, no code. Pass "
        f"a named option, or pickle the estimator."
    )


@dataclass
class _Decoder:
    """Undoes :func:`_encoded`; makes nothing but what stands in the tables.

    Attributes
    ----------
    tensors : dict of ndarray
        Those that are still to be placed.
    network : callable or None
        What the user gave.
    device : str
    """

    tensors: dict[str, np.ndarray]
    network: Callable | None
    device: str

    def decode(self, node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        ((kind, content),) = node.items()
        return _KINDS[kind](self, content)

    def decode_all(self, nodes: dict[str, Any]) -> dict[str, Any]:
        return {name: self.decode(node) for name, node in nodes.items()}

    def tensor_of(self, name: str) -> np.ndarray:
        return self.tensors.pop(name)

    def strings_of(self, content: list[str]) -> np.ndarray:
        return np.array([str(part) for part in content], dtype=object)

    def list_of(self, content: list[Any]) -> list[Any]:
        return [self.decode(part) for part in content]

    def tuple_of(self, content: list[Any]) -> tuple[Any, ...]:
        return tuple(self.decode(part) for part in content)

    def callable_of(self, content: bool) -> Callable:
        if self.network is None:
            raise _Refused(
                "the estimator has a network of its own, which files do not hold. Pass it again: "
                "load(path, network=...)."
            )
        return self.network

    def record_of(self, content: dict[str, Any]) -> Any:
        """A dataclass or named tuple of the table."""
        ((name, fields),) = content.items()
        cls, values = _RECORDS[name], self.decode_all(fields)
        if set(values) != set(_field_names(cls)):
            raise _Refused(f"{name} has other fields than it should.")
        return cls(**values)

    def model_of(self, content: dict[str, Any]) -> Model:
        """The model, if its arrays are those of its network."""
        state = self.decode_all(content)
        expected, found = n_values(state["spec"]), len(state["arrays"]["parameters"])
        if expected not in (None, found):
            raise _Refused(f"its network has {expected} weights, but the file holds {found}.")
        model = Model.__new__(Model)
        model.__setstate__(state | {"device": self.device})
        return model


_KINDS: dict[str, Callable] = {
    "tensor": _Decoder.tensor_of,
    "strings": _Decoder.strings_of,
    "list": _Decoder.list_of,
    "tuple": _Decoder.tuple_of,
    "dict": _Decoder.decode_all,
    "callable": _Decoder.callable_of,
    "record": _Decoder.record_of,
    "model": _Decoder.model_of,
}


def _built(tree: dict[str, Any], decoder: _Decoder) -> BaseAutoencoder:
    """The estimator of a verified file."""
    estimator = _CLASSES[tree["class"]](**decoder.decode_all(tree["parameters"]))
    estimator._validate_params()
    if unknown := set(tree["state"]) - _ATTRIBUTES:
        raise _Refused(f"unknown attributes: {sorted(unknown)}.")
    for name, value in decoder.decode_all(tree["state"]).items():
        setattr(estimator, name, value)
    if decoder.tensors:
        raise _Refused(f"arrays that belong to nothing: {sorted(decoder.tensors)[:3]}.")
    check_is_fitted(estimator)
    return estimator


def _field_names(cls: Any) -> list[str]:
    return [field.name for field in fields(cls)] if is_dataclass(cls) else list(cls._fields)


def _canonical(tree: Any) -> str:
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(tree: dict[str, Any], tensors: dict[str, np.ndarray]) -> str:
    """SHA-256 of the JSON and of every array: name, dtype, shape and bytes."""
    digest = hashlib.sha256(_canonical(tree).encode())
    for name, array in sorted(tensors.items()):
        digest.update(_canonical([name, array.dtype.name, list(array.shape)]).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Write all or nothing."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _read(file: BinaryIO) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """JSON and arrays of a file, verified."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(_MOST_HEADER_BYTES, size - 8):
        raise _Refused(f"truncated, or not a safetensors file: {size} bytes, header {length}.")
    header = _parsed(file.read(length).decode("utf-8"))
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or set(metadata) != {"skae"}:
        raise _Refused("a safetensors file, but not of a skae estimator.")
    tree = _parsed(metadata["skae"])
    if tree.get("format") != FORMAT:
        raise _Refused(
            f"format {tree.get('format')!r:.40}, written by skae {_version_of(tree)}; skae "
            f"{skae.__version__} reads format {FORMAT}. Load it with that version."
        )
    if _canonical(tree) != metadata["skae"]:
        raise _Refused("its JSON is not canonical.")
    tensors = _tensors(file, header, size - 8 - length)
    expected = tree.pop("sha256", None)
    if _digest(tree, tensors) != expected:
        raise _Refused("damaged: its checksum does not fit. Take another copy.")
    if not all(np.isfinite(array).all() for array in tensors.values()):
        raise _Refused("it holds values that are not finite.")
    return tree, tensors


def _version_of(tree: dict[str, Any]) -> str:
    versions = tree.get("versions")
    return f"{versions.get('skae')!s:.40}" if isinstance(versions, dict) else "of unknown version"


def _parsed(text: str) -> dict[str, Any]:
    """JSON without duplicate keys."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise _Refused("its JSON has duplicate keys.")
        return dict(pairs)

    tree = json.loads(text, object_pairs_hook=unique)
    if not isinstance(tree, dict):
        raise _Refused("its JSON is no object.")
    return tree


def _tensors(file: BinaryIO, header: dict[str, Any], n_bytes: int) -> dict[str, np.ndarray]:
    """The arrays, if they lie one after another and fill the file."""
    position, plan = 0, []
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, end = entry["data_offsets"]
        dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
        if not all(type(length) is int and length >= 0 for length in (start, end, *shape)):
            raise _Refused(f"array {name!r:.40} has a shape or place that is none.")
        if start != position or end - start != math.prod(shape) * dtype.itemsize:
            raise _Refused(f"array {name!r:.40} does not lie where it should.")
        position = end
        plan.append((name, dtype, shape, end - start))
    if position != n_bytes:
        raise _Refused(f"its arrays should fill {position} bytes, but {n_bytes} are there.")
    return {
        name: np.frombuffer(file.read(span), dtype).reshape(shape).copy()
        for name, dtype, shape, span in plan
    }
