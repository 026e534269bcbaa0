"""Safe files: fitted estimators as .safetensors, without pickle and without code.

What an estimator stores is declared: its parameters, and the attributes of its table
``_fitted_types``. Reading, the header comes first. Class, parameters, settings and the
shapes of all arrays are checked before the arrays are read.
"""

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import sklearn
import torch
from sklearn.utils.validation import check_is_fitted

from skae import __version__, _records
from skae._base import BaseAutoencoder
from skae._codec_file import CodecState, codec_of, shapes_of, state_of
from skae._container import Reader, write
from skae._denoiser import DenoisingAutoencoder
from skae._detector import AutoencoderAnomalyDetector
from skae._transformer import AutoencoderTransformer
from skae._variational import VariationalAutoencoder
from skae.codec import LatentCodec
from skae.data.columns import Ranges, is_numeric
from skae.data.scale import AffineScaler
from skae.data.spec import InputSpec
from skae.defects import DefectScorer, octave_sizes
from skae.density import Mixture
from skae.device import resolve_device
from skae.inference import Model
from skae.losses import LOSSES
from skae.networks.activations import ACTIVATIONS
from skae.networks.build import initialize, state_shapes
from skae.networks.conv import ConvBuilder, UnetBuilder
from skae.networks.dense import DenseSpec
from skae.networks.modules import ModuleNetwork, ModuleSpec
from skae.scoring import Scorer, joint_width

FORMAT = 1

# Name of a codec's class, and of its estimator's arrays.
_CODEC, _INNER = LatentCodec.__name__, "estimator."

# Most layers, stages or members of a network.
_MOST_SIZES = 256

_CLASSES: dict[str, type[BaseAutoencoder]] = {
    cls.__name__: cls
    for cls in (
        AutoencoderTransformer,
        DenoisingAutoencoder,
        AutoencoderAnomalyDetector,
        VariationalAutoencoder,
    )
}


@dataclass(frozen=True)
class _Modules:
    """A ``ModuleSpec`` as a file has it: without what builds the user's modules."""

    builder: ConvBuilder | UnetBuilder | None
    input_shape: tuple[int, ...]
    n_components: int
    sparsity: int | None
    compile: bool
    variational: bool


class _Parameter(TypedDict):
    """Name and shape of one parameter of the user's modules."""

    name: str
    shape: tuple[int, ...]


class _Model(TypedDict):
    """What a ``Model`` pickles, and the layout of the user's modules."""

    spec: DenseSpec | _Modules
    scaler: AffineScaler
    loss: str
    n_features: int
    arrays: dict[str, np.ndarray]
    layout: list[_Parameter]


def save(estimator: BaseAutoencoder | LatentCodec, path: str | os.PathLike) -> None:
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
    stored = _stored_codec if type(estimator) is LatentCodec else _stored
    settings = {"format": FORMAT, "versions": versions()} | stored(estimator, arrays)
    write(Path(path), settings, arrays)


def load(
    path: str | os.PathLike,
    *,
    network: Callable | None = None,
    device: str = "auto",
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
    device : str, default="auto"
        Device for the network, as of the estimators.

    Returns
    -------
    estimator : one of the estimators of this package, or a LatentCodec
        Fitted, with the parameters, predictions and training state of the saved one.

    Raises
    ------
    ValueError
        If the file is damaged, is no such file, or was written in another format, or if
        ``network`` builds another architecture.
    OSError
        If the file cannot be read.
    """
    target = str(resolve_device(device))
    try:
        with Reader(Path(path)) as reader:
            return _loaded(reader, network, target)
    except (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError) as error:
        reason = str(error).split("\n")[0][:500]
        raise ValueError(f"{os.fspath(path)} cannot be loaded: {reason}") from error


def _loaded(reader: Reader, network: Callable | None, device: str) -> BaseAutoencoder | LatentCodec:
    settings = reader.settings
    _check_format(settings)
    # Arrays of the right shapes that take no memory: whatever is wrong is found before reading.
    planned = {k: np.broadcast_to(np.zeros((), d), s) for k, (d, s) in reader.layout.items()}
    if settings["class"] == _CODEC:
        return _loaded_codec(settings, planned, reader.arrays, network, device)
    estimator = _planned(settings, planned, network)
    return _filled(estimator, settings, reader.arrays(), network, device)


def _planned(
    settings: dict[str, Any], planned: dict[str, np.ndarray], network: Callable | None
) -> BaseAutoencoder:
    """The estimator without its state, which was checked."""
    name = settings["class"]
    if type(name) is not str or name not in _CLASSES:
        raise ValueError(f"its class {str(name)[:80]!r} is none of {', '.join(_CLASSES)}.")
    parameters = _parameters(_CLASSES[name], settings["parameters"])
    if "network" not in settings["parameters"]:
        parameters["network"] = "auto" if network is None else network
    estimator = _CLASSES[name](**parameters | {"compile": False})
    estimator._validate_params()
    _check_state(_state(estimator, settings["fitted"], planned), network)
    return estimator


def _filled(
    estimator: BaseAutoencoder,
    settings: dict[str, Any],
    arrays: dict[str, np.ndarray],
    network: Callable | None,
    device: str,
) -> BaseAutoencoder:
    state = _state(estimator, settings["fitted"], arrays)
    state["_model"] = _rebuilt(state["_model"], network, device)
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
    if callable(parameters["network"]):
        del parameters["network"]
    return {name: _plain(name, value) for name, value in parameters.items()}


def _plain(name: str, value: Any) -> Any:
    """A parameter as JSON; a tuple is told from a list."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (list, np.ndarray)):
        return [_plain(name, item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_plain(name, item) for item in value]}
    raise ValueError(
        f"{name}={value!r} is code, which a safe file cannot hold. Pass a number or one of the "
        f"named options, or save with skops or joblib."
    )


def _unplain(value: Any) -> Any:
    if type(value) is dict and value.keys() == {"tuple"} and type(value["tuple"]) is list:
        return tuple(_unplain(item) for item in value["tuple"])
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
        raise ValueError(
            f"estimator={estimator!r} is none of {', '.join(_CLASSES)}. Save it with skops or "
            f"joblib."
        )
    check_is_fitted(estimator)
    estimator._validate_params()
    estimator._settle()
    parameters = stored_parameters(estimator)
    return {"class": name, "parameters": parameters, "fitted": _stored_state(estimator, arrays)}


def _stored_codec(codec: LatentCodec, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    check_is_fitted(codec)
    codec._check_parameters()
    inner: dict[str, np.ndarray] = {}
    state, stored = state_of(codec), _stored(codec.estimator_, inner)
    arrays.update({_INNER + name: array for name, array in inner.items()})
    parameters = {k: _plain(k, v) for k, v in codec.get_params(False).items() if k != "estimator"}
    fitted = {"estimator": stored, "codec": _records.encode(CodecState, state, "codec", arrays)}
    return {"class": _CODEC, "parameters": parameters, "fitted": fitted}


def _loaded_codec(
    settings: dict[str, Any],
    planned: dict[str, np.ndarray],
    read: Callable[[], dict[str, np.ndarray]],
    network: Callable | None,
    device: str,
) -> LatentCodec:
    parameters, fitted = _parameters(LatentCodec, settings["parameters"]), settings["fitted"]
    keys = {"estimator", "codec"}
    _must(type(fitted) is dict and fitted.keys() == keys, f"what was fitted must be {sorted(keys)}")
    stored = fitted["estimator"]
    keys = {"class", "parameters", "fitted"}
    _must(type(stored) is dict and stored.keys() == keys, f"its estimator must be {sorted(keys)}")
    own, inner = _parted(planned)
    estimator = _planned(stored, inner, network)
    n_latents, n_features = (stored["fitted"][k] for k in ("n_components_", "n_features_in_"))
    for arrays, shapes, kinds in shapes_of(_codec_state(fitted, own), n_latents, n_features):
        _check_arrays(arrays, shapes, kinds)
    own, inner = _parted(read())
    estimator = _filled(estimator, stored, inner, network, device)
    return codec_of(estimator, parameters, _codec_state(fitted, own))


def _codec_state(fitted: dict[str, Any], arrays: dict[str, np.ndarray]) -> CodecState:
    state = _records.decode(CodecState, fitted["codec"], "codec", arrays)
    _must(not arrays, f"it holds arrays that nothing asks for, {str(list(arrays))[:80]}")
    return state


def _parted(arrays: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays of a codec, and those of its estimator."""
    own = {k: v for k, v in arrays.items() if not k.startswith(_INNER)}
    return own, {k.removeprefix(_INNER): v for k, v in arrays.items() if k.startswith(_INNER)}


def _stored_state(estimator: BaseAutoencoder, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    state = {name: value for name, value in vars(estimator).items() if name in _types(estimator)}
    state["_model"] = _stored_model(state["_model"])
    types = _types(estimator)
    return {name: _records.encode(types[name], v, name, arrays) for name, v in state.items()}


def _state(estimator: BaseAutoencoder, stored: Any, arrays: dict[str, np.ndarray]) -> dict:
    types = _types(estimator)
    optional = {"feature_names_in_", "explained_variance_ratio_", "_sklearn_output_config"}
    if type(stored) is not dict or not types.keys() - optional <= stored.keys() <= types.keys():
        raise ValueError(f"what was fitted must be {sorted(types)}.")
    rest = dict(arrays)
    state = {k: _records.decode(types[k], tree, k, rest) for k, tree in stored.items()}
    _must(not rest, f"it holds arrays that nothing asks for, {str(list(rest))[:80]}")
    return state


def _types(estimator: BaseAutoencoder) -> dict[str, Any]:
    return estimator._fitted_types | {"_model": _Model}


def _stored_model(model: Model) -> dict[str, Any]:
    state, layout = model.__getstate__(), []
    spec = state["spec"]
    if isinstance(spec, ModuleSpec):
        assert isinstance(model.network, ModuleNetwork)
        builder = spec.builder if isinstance(spec.builder, (ConvBuilder, UnetBuilder)) else None
        layout = [] if builder else _layout(model.network)
        spec = _Modules(**vars(spec) | {"builder": builder})
    return state | {"spec": spec, "layout": layout}


def _layout(network: ModuleNetwork) -> list[dict[str, Any]]:
    named = network.pair.named_parameters()
    return [{"name": name, "shape": tuple(value.shape)} for name, value in named]


def _rebuilt(stored: dict[str, Any], network: Callable | None, device: str) -> Model:
    """The model, whose spec was checked."""
    state = {k: v for k, v in stored.items() if k != "layout"}
    model = Model.__new__(Model)
    model.__setstate__(state | {"spec": _spec(stored["spec"], network), "device": device})
    return model


def _spec(stored: DenseSpec | _Modules, network: Callable | None) -> DenseSpec | ModuleSpec:
    if isinstance(stored, DenseSpec):
        return stored
    builder = network if stored.builder is None else stored.builder
    assert builder is not None
    # To compile starts processes, which loading never does.
    return ModuleSpec(**vars(stored) | {"builder": builder, "compile": False})


# Whether it all fits together, by settings and shapes alone.

_CHOICES: dict[str, Any] = {
    "activation": ACTIVATIONS,
    "normalization": (None, "batch", "layer"),
    "loss": LOSSES,
}


def _check_state(state: dict[str, Any], network: Callable | None) -> None:
    model, n_features = state["_model"], state["n_features_in_"]
    _check_given(model, network)
    _check_settings(vars(model["spec"]) | {"loss": model["loss"]})
    _check_input(state["_input"], model, n_features)
    n_latents, n_members = _check_network(model, network)
    _must(state["n_components_"] == n_latents, f"n_components_ must be {n_latents}")
    if "feature_names_in_" in state:
        names = state["feature_names_in_"]
        _must(names.dtype == object and len(names) == n_features, "feature names must be one each")
    if "explained_variance_ratio_" in state:
        _check_arrays(state, {"explained_variance_ratio_": (n_latents,)})
    if "_ranges" in state:
        _check_density(state["_density"], n_latents)
        _check_columns(state["_ranges"], state["_dtypes"], n_features)
    weights = model["arrays"]["parameters"]
    moments = state["_train_state"]["moments"]
    _must(moments.keys() <= {"first", "second"}, "the optimizer's moments have unknown names")
    _check_arrays(moments, dict.fromkeys(moments, weights.shape))
    output = state.get("_sklearn_output_config", {})
    _must(output.keys() <= {"transform"}, "the output has unknown settings")
    if "_scorer" in state:
        _must(len(state["_seeds"]) == state["n_estimators_"] == n_members, "members differ")
        scorer = state["_scorer"]
        if isinstance(scorer, DefectScorer):
            _check_defect_scorer(scorer, state["_input"], n_latents, n_members)
            scorer = scorer.rows
        _check_scorer(scorer, n_features, joint_width(n_latents + n_features), n_members)


def _check_given(model: dict[str, Any], network: Callable | None) -> None:
    """A network is given to load if, and only if, the file has none."""
    spec = model["spec"]
    own = isinstance(spec, _Modules) and spec.builder is None
    if own and network is None:
        raise ValueError("it was fitted with a network of your own: pass load(path, network=...).")
    if network is not None and not own:
        raise ValueError(f"it holds its network: leave out network={network!r}.")


def _check_settings(settings: dict[str, Any]) -> None:
    """Settings of a network, those of its builder included."""
    for name, value in settings.items():
        if name == "builder" and value is not None:
            _check_settings(vars(value))
        elif name in _CHOICES:
            _must(value in _CHOICES[name], f"{name}={value!r} is unknown")
        elif name == "dropout":
            _must(0 <= value < 1, f"dropout={value!r} must be in [0, 1)")
        elif isinstance(value, (int, tuple)) and not isinstance(value, bool):
            sizes = (value,) if isinstance(value, int) else value
            empty = name == "hidden_layer_sizes"
            _must((len(sizes) > 0 or empty) and 0 not in sizes, f"{name} must be positive")
            _must(len(sizes) <= _MOST_SIZES, f"{name} has more than {_MOST_SIZES} entries")


def _check_input(given: InputSpec, model: dict[str, Any], n_features: int) -> None:
    """Whether all parts are of one number of features: that of the scaler's arrays."""
    agree = {n_features, model["n_features"], given.n_features}
    _must(len(agree) == 1 and n_features > 0, "the number of features differs between its parts")
    _check_arrays(vars(model["scaler"]), {"center": (n_features,), "scale": (n_features,)})
    _must(given.image_shape is not None or not given.is_patch, "patches need an image_shape")
    spec = model["spec"]
    of_rows = isinstance(spec, DenseSpec)
    takes: Any = spec.n_features if of_rows else spec.input_shape
    gets = n_features if of_rows else given.network_shape
    _must(takes == gets, f"the network takes {takes}, but rows are of {gets}")


def _check_network(model: dict[str, Any], network: Callable | None) -> tuple[int, int]:
    """Numbers of latents and of members."""
    spec, arrays = _spec(model["spec"], network), model["arrays"]
    if isinstance(spec, ModuleSpec) and network is not None:
        built = initialize(spec, (0,), torch.float32, torch.device("cpu"))
        assert isinstance(built, ModuleNetwork)
        found, stored = _layout(built), model["layout"]
        _must(found == stored, f"network={network!r} has the parameters {found}, not {stored}")
    shapes = state_shapes(spec)
    _must(arrays.keys() == shapes.keys(), f"the network's arrays must be {sorted(shapes)}")
    _check_arrays(arrays, shapes, kinds="fiub")
    _must(arrays["parameters"].dtype in (np.float32, np.float64), "weights have another dtype")
    if isinstance(spec, DenseSpec):
        return spec.n_latents, spec.n_members
    return spec.n_components, 1


def _check_scorer(scorer: Scorer | None, n_features: int, width: int, n_members: int) -> None:
    if scorer is None:
        return
    _check_arrays({"features": scorer.features}, {"features": (3, n_features)})
    views = scorer.members
    _must(len(views) == n_members and len({len(v) for v in views}) == 1, "the views differ")
    for view in (view for views in scorer.members for view in views):
        basis = {"center": (width,), "basis": (width, width)}
        _must((view.center is None) == (view.basis is None), "a view lacks its basis")
        _check_arrays(view._asdict(), {} if view.basis is None else basis)
        shape = view.references.shape
        _must(len(shape) == 3 and 0 not in shape and shape[2] == width, "a view has another width")


def _check_defect_scorer(
    scorer: DefectScorer, given: InputSpec, n_latents: int, n_members: int
) -> None:
    _must(scorer.image_shape == given.image_shape, "the images of the scorer have another shape")
    _must(len(scorer.members) == n_members, "the members of the scorer differ")
    lengths = [height * width for height, width in octave_sizes(scorer.image_shape)]
    for member in scorer.members:
        _check_arrays(member._asdict(), {"mean": (n_latents,), "deviation": (n_latents,)})
        _must(len(member.octaves) == len(lengths), "an image has another number of octaves")
        for octave, n in zip(member.octaves, lengths, strict=True):
            shapes: dict[str, tuple[int, ...]] = {"slopes": (n_latents, n)}
            _check_arrays(octave._asdict(), shapes | {"location": (n,), "scale": (n,)})


def _check_density(density: Mixture | None, n_latents: int) -> None:
    if density is None:
        return
    n = len(density.weights) if density.weights.ndim else 0
    shapes = {"weights": (n,), "means": (n, n_latents), "factors": (n, n_latents, n_latents)}
    _check_arrays(density._asdict(), shapes)
    _must(n > 0, "the density has no component")


def _check_columns(ranges: Ranges, dtypes: np.ndarray, n_features: int) -> None:
    _check_arrays(ranges._asdict(), {"low": (n_features,), "high": (n_features,)})
    _check_arrays(ranges._asdict(), {"whole": (n_features,)}, kinds="b")
    known = dtypes.dtype == object and all(is_numeric(name) for name in dtypes)
    _must(known and len(dtypes) in (1, n_features), "the columns' dtypes must be one each")


def _check_arrays(arrays: Any, shapes: dict[str, tuple[int, ...]], kinds: str = "f") -> None:
    for name, shape in shapes.items():
        array = arrays[name]
        fits = array.shape == shape and array.dtype.kind in kinds
        _must(fits, f"{name} must be of shape {shape}, not {array.dtype} of {array.shape}")


def _must(holds: bool, else_: str) -> None:
    if not holds:
        raise ValueError(f"{else_}.")
