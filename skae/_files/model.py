"""A model as it stands in a file, and checks that the parts of an estimator fit together.

The checks need only settings and shapes, and run before any array is read.
"""

import math
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import torch

from skae._anomaly.distances import Member, View
from skae._anomaly.images import ImageScorer
from skae._anomaly.levels import Level
from skae._anomaly.octaves import octave_sizes
from skae._anomaly.projections import joint_width
from skae._anomaly.rows import Scorer
from skae._anomaly.seen import Seen
from skae._anomaly.surroundings import Surroundings, ringed_sizes
from skae._data.columns import Ranges, is_numeric
from skae._data.margins import LEVELS
from skae._data.scale import AffineScaler
from skae._data.spec import InputSpec
from skae._data.table import MOST_VALUES, Category, Table
from skae._data.types import NetworkBuilder
from skae._model.density import Mixture
from skae._model.model import Model
from skae._model.spread import N_QUANTILES
from skae._networks.activations import ACTIVATIONS
from skae._networks.builders import Builder
from skae._networks.conv import ConvBuilder, UnetBuilder
from skae._networks.dense import DenseSpec
from skae._networks.factory import initialize, state_shapes
from skae._networks.features import FeaturesSpec
from skae._networks.gaps import GapBuilder
from skae._networks.modules import ModuleNetwork, ModuleSpec
from skae._networks.scattered import ScatteredSpec, n_axes
from skae._networks.subspace import SubspaceSpec
from skae._runtime.tuning import BLOCK_SIDE, RING_SIDE
from skae._training.losses import LOSSES

# Most layers, stages or members of a network.
_MOST_SIZES = 256

_CHOICES: dict[str, Any] = {
    "activation": ACTIVATIONS,
    "normalization": (None, "batch", "layer"),
}


@dataclass(frozen=True)
class _Modules:
    """A ``ModuleSpec`` as it stands in a file: without the builder of the user's modules."""

    builder: ConvBuilder | UnetBuilder | GapBuilder | None
    input_shape: tuple[int, ...]
    n_components: int
    n_nonzero: int | None
    variational: bool


class _Parameter(TypedDict):
    """Name and shape of one parameter of the user's modules."""

    name: str
    shape: tuple[int, ...]


class StoredModel(TypedDict):
    """What a ``Model`` pickles, and the layout of the user's modules."""

    spec: ScatteredSpec | SubspaceSpec | FeaturesSpec | DenseSpec | _Modules
    scaler: AffineScaler
    loss: str
    n_features: int
    arrays: dict[str, np.ndarray]
    layout: list[_Parameter]


def stored_model(model: Model) -> dict[str, Any]:
    """The model as a :class:`StoredModel`."""
    state, layout = model.__getstate__(), []
    if isinstance(state["loss"], tuple):
        state["loss"] = " ".join(state["loss"])
    spec = state["spec"]
    if isinstance(spec, ModuleSpec):
        assert isinstance(model.network, ModuleNetwork)
        builder = spec.builder if isinstance(spec.builder, Builder) else None
        layout = [] if builder else _layout(model.network)
        spec = _Modules(**vars(spec) | {"builder": builder})
    return state | {"spec": spec, "layout": layout}


def _layout(network: ModuleNetwork) -> list[dict[str, Any]]:
    named = network.pair.named_parameters()
    return [{"name": name, "shape": tuple(value.shape)} for name, value in named]


def rebuilt(stored: dict[str, Any], network: NetworkBuilder | None, device: str) -> Model:
    """The model, from a checked state."""
    state = {k: v for k, v in stored.items() if k != "layout"}
    losses = tuple(state["loss"].split())
    state["loss"] = losses[0] if len(losses) == 1 else losses
    model = Model.__new__(Model)
    model.__setstate__(state | {"spec": _spec(stored["spec"], network), "device": device})
    return model


def _spec(stored: DenseSpec | _Modules, network: NetworkBuilder | None) -> DenseSpec | ModuleSpec:
    if isinstance(stored, DenseSpec):
        return stored
    builder = network if stored.builder is None else stored.builder
    assert builder is not None
    return ModuleSpec(**vars(stored) | {"builder": builder})


def check_state(state: dict[str, Any], network: NetworkBuilder | None) -> None:
    """Raise ValueError unless all parts of a fitted estimator fit together."""
    model, n_features = state["_model"], state["n_features_in_"]
    _check_given(model, network)
    _check_settings(vars(model["spec"]))
    losses = model["loss"].split()
    must(bool(losses) and set(losses) <= LOSSES.keys(), f"loss={model['loss']!r} is unknown")
    n_numbers = len(state["_table"].numbers)
    must(len(losses) in (1, n_numbers), f"{len(losses)} losses are not of {n_numbers} numbers")
    check_table(state["_table"], n_features)
    _check_input(state["_input"], model, state["_table"])
    n_latents, n_members = _check_network(model, network)
    must(state["n_components_"] == n_latents, f"n_components_ must be {n_latents}")
    if "feature_names_in_" in state:
        names = state["feature_names_in_"]
        must(names.dtype == object and len(names) == n_features, "feature names must be one each")
    if "explained_variance_ratio_" in state:
        check_arrays(state, {"explained_variance_ratio_": (n_latents,)})
    if "_density" in state:
        _check_density(state["_density"], n_latents)
    if "_kept" in state:
        _check_imputer(state, n_features)
    if "_ranges" in state:
        _check_ranges(state["_ranges"], state["_table"])
    weights = model["arrays"]["parameters"]
    if "_recent" in state:
        width = state["_table"].width
        check_arrays(state, {"_recent": (len(state["_recent"]), width)}, kinds="fiub")
    if "_train_state" in state:
        moments = state["_train_state"]["moments"]
        must(moments.keys() <= {"first", "second"}, "the optimizer's moments have unknown names")
        check_arrays(moments, dict.fromkeys(moments, weights.shape))
    output = state.get("_sklearn_output_config", {})
    must(output.keys() <= {"transform"}, "the output has unknown settings")
    if "_scorer" in state:
        must(len(state["_seeds"]) == state["n_estimators_"] == n_members, "members differ")
        n_held_out = len(state["_held_out"].scores)
        for name in ("scores", "weights"):
            check_arrays(state["_held_out"]._asdict(), {name: (n_held_out,)})
        must(n_held_out > 0, "no score was held out")
        if state["_seen"] is not None:
            _check_seen(state["_seen"], n_members)
        scorer = state["_scorer"]
        if isinstance(scorer, ImageScorer):
            _check_image_scorer(scorer, state["_input"], n_latents, n_members)
            scorer = scorer.rows
        width = state["_table"].width
        if isinstance(scorer, Scorer) and scorer.has_outside:
            must(isinstance(model["spec"], SubspaceSpec), "an outside is that of a subspace")
        _check_scorer(scorer, width, n_latents + width, n_members)


def _check_given(model: dict[str, Any], network: NetworkBuilder | None) -> None:
    """Check that a network is given to load if, and only if, the file has none."""
    spec = model["spec"]
    own = isinstance(spec, _Modules) and spec.builder is None
    if own and network is None:
        raise ValueError("it was fitted with a network of your own: pass load(path, network=...).")
    if network is not None and not own:
        raise ValueError(f"it holds its network: leave out network={network!r}.")


def _check_settings(settings: dict[str, Any]) -> None:
    """Check the settings of a network, including those of its builder."""
    for name, value in settings.items():
        if name == "builder" and value is not None:
            _check_settings(vars(value))
        elif name in _CHOICES:
            must(value in _CHOICES[name], f"{name}={value!r} is unknown")
        elif name == "n_units":
            must(value >= 0, f"n_units={value!r} must not be negative")
        elif name == "dropout":
            must(0 <= value < 1, f"dropout={value!r} must be in [0, 1)")
        elif isinstance(value, (int, tuple)) and not isinstance(value, bool):
            sizes = (value,) if isinstance(value, int) else value
            empty = name in ("hidden_layer_sizes", "layers")
            must((len(sizes) > 0 or empty) and 0 not in sizes, f"{name} must be positive")
            most = len(sizes) if name == "pieces" else _MOST_SIZES
            must(len(sizes) <= most, f"{name} has more than {_MOST_SIZES} entries")


def _check_input(given: InputSpec, model: dict[str, Any], table: Table) -> None:
    """Check that all parts have the same number of features as the scaler's arrays."""
    n_features = table.width
    agree = {n_features, model["n_features"], given.n_features}
    must(len(agree) == 1 and n_features > 0, "the number of features differs between its parts")
    scaler = vars(model["scaler"])
    must(scaler["sizes"] == table.sizes, "the categories of its parts differ")
    check_arrays(scaler, {"center": (n_features,), "scale": (n_features,)})
    if scaler["seen"] is not None:
        check_arrays(scaler, {"seen": (2, n_features)})
    if scaler["output_bounds"] is not None:
        check_arrays(scaler, {"output_bounds": (2, n_features)})
    must(scaler["margin"] >= 0.0, "the margin of the scaling is negative")
    must(given.image_shape is not None or not given.is_patch, "patches need an image_shape")
    spec = model["spec"]
    of_rows = isinstance(spec, DenseSpec) and not isinstance(spec, ScatteredSpec)
    takes: Any = spec.n_features if of_rows else spec.input_shape
    takes = spec.n_given if isinstance(spec, (SubspaceSpec, FeaturesSpec)) else takes
    gets = n_features if of_rows else given.network_shape
    must(takes == gets, f"the network takes {takes}, but rows are of {gets}")
    if isinstance(spec, FeaturesSpec):
        must(spec.n_features == sum(spec.pieces), "pieces are of another number")
        must(spec.n_members == 1, "features are of one member")
    if isinstance(spec, ScatteredSpec):
        must(given.image_shape is not None, "scattering needs an image_shape")
        must(spec.n_features == sum(n_axes(spec.input_shape)), "coordinates are of another number")


def _check_network(model: dict[str, Any], network: NetworkBuilder | None) -> tuple[int, int]:
    """Check the network's arrays; return its numbers of latents and of members."""
    spec, arrays = _spec(model["spec"], network), model["arrays"]
    if isinstance(spec, ModuleSpec) and network is not None:
        built = initialize(spec, (0,), torch.float32, torch.device("cpu"))
        assert isinstance(built, ModuleNetwork)
        found, stored = _layout(built), model["layout"]
        must(found == stored, f"network={network!r} has the parameters {found}, not {stored}")
    shapes = state_shapes(spec)
    must(arrays.keys() == shapes.keys(), f"the network's arrays must be {sorted(shapes)}")
    check_arrays(arrays, shapes, kinds="fiub")
    must(arrays["parameters"].dtype in (np.float32, np.float64), "weights have another dtype")
    if isinstance(spec, DenseSpec):
        return spec.n_latents, spec.n_members
    return spec.n_components, 1


def _check_scorer(scorer: Scorer | None, n_features: int, n_columns: int, n_members: int) -> None:
    if scorer is None:
        return
    check_arrays({"features": scorer.features}, {"features": (3, n_features)})
    _check_level(scorer.level)
    must(scorer.width == n_columns, "the scorer has another width")
    width = joint_width(n_columns) + scorer.has_outside
    lengths = {len(member.views) for member in scorer.members}
    must(len(scorer.members) == n_members and len(lengths) == 1, "the views differ")
    for member in scorer.members:
        for references in (member.few, member.many):
            _check_references(references, width)
        for view in member.views:
            _check_view(view, member, width)


def _check_level(level: Level) -> None:
    n = len(level.shares) if level.shares.ndim else 0
    check_arrays(level._asdict(), dict.fromkeys(level._fields, (n,)))
    must(n > 0, "a level has no groups")


def _check_references(references: np.ndarray | None, width: int) -> None:
    if references is not None:
        shape = references.shape
        fits = len(shape) == 3 and 0 not in shape and shape[2] == width
        must(fits and references.dtype.kind == "f", "references have another width")


def _check_view(view: View, member: Member, width: int) -> None:
    basis = {"center": (width,), "basis": (width, width)}
    must((view.center is None) == (view.basis is None), "a view lacks its basis")
    check_arrays(view._asdict(), {} if view.basis is None else basis)
    given = {"few": member.few, "many": member.many, "center": view.center}
    lacks = view.references != "none" and given.get(view.references) is None
    must(not lacks, f"references={view.references!r} are lacking")


def _check_seen(seen: Seen, n_members: int) -> None:
    n = len(seen.keys)
    check_arrays(seen._asdict(), {"keys": (n,)}, kinds="i")
    check_arrays(seen._asdict(), {"trained": (n, n_members)}, kinds="b")
    ordered = n > 0 and bool((np.diff(seen.keys) >= 0).all())
    must(ordered, "the keys of known rows are not in order")


def _check_image_scorer(
    scorer: ImageScorer, given: InputSpec, n_latents: int, n_members: int
) -> None:
    must(scorer.image_shape == given.image_shape, "the images of the scorer have another shape")
    must(len(scorer.members) == n_members, "the members of the scorer differ")
    _check_level(scorer.level)
    n_octaves = max(1, len(octave_sizes(scorer.image_shape)) - 1)
    check_arrays(scorer.texture._asdict(), dict.fromkeys(scorer.texture._fields, (n_octaves,)))
    ringed = ringed_sizes(scorer.image_shape)
    must(len(scorer.surroundings) == len(ringed), "an image has another number of surroundings")
    for surroundings in scorer.surroundings:
        _check_surroundings(surroundings, math.prod(scorer.image_shape[2:]))
    sizes = octave_sizes(scorer.image_shape) + ringed
    lengths = [height * width for height, width in sizes]
    for member in scorer.members:
        check_arrays(member._asdict(), {"mean": (n_latents,), "deviation": (n_latents,)})
        check_arrays(member._asdict(), {"influence": (n_latents, n_latents)})
        must(len(member.octaves) == len(lengths), "an image has another number of octaves")
        for octave, n in zip(member.octaves, lengths, strict=True):
            shapes: dict[str, tuple[int, ...]] = {"slopes": (n_latents, n)}
            check_arrays(octave._asdict(), shapes | {"location": (n,), "scale": (n,)})


def _check_surroundings(one: Surroundings, n_channels: int) -> None:
    must(one.directions.ndim == 2, "surroundings have no directions")
    n_axes, n_random = one.directions.shape
    n_block, n_given = n_channels * BLOCK_SIDE**2, n_random + n_axes + 1
    n_ring = n_channels * RING_SIDE**2 - n_block
    shapes: dict[str, tuple[int, ...]] = {"center": (n_ring,), "axes": (n_ring, n_axes)}
    shapes |= {"directions": (n_axes, n_random), "shifts": (n_random,)}
    check_arrays(one._asdict(), shapes | {"pixels": (n_given, n_block), "errors": (n_given,)})


def _check_density(density: Mixture | None, n_latents: int) -> None:
    if density is None:
        return
    n = len(density.weights) if density.weights.ndim else 0
    shapes = {"weights": (n,), "means": (n, n_latents), "factors": (n, n_latents, n_latents)}
    check_arrays(density._asdict(), shapes)
    must(n > 0, "the density has no component")


def _check_ranges(ranges: Ranges, table: Table) -> None:
    width, n_units = table.width, sum(table.sizes)
    check_arrays(ranges._asdict(), {"low": (width,), "high": (width,)})
    check_arrays(ranges._asdict(), {"whole": (width,)}, kinds="b")
    shapes = {"quantiles": (len(LEVELS), width - n_units), "shares": (n_units,)}
    for margins in (ranges.margins, ranges.residuals):
        if margins is not None:
            check_arrays(margins._asdict(), shapes)


def _check_imputer(state: dict[str, Any], n_features: int) -> None:
    masks = ("_observed", "_gaps", "_kept", "_flagged")
    check_arrays(state, dict.fromkeys(masks, (n_features,)), kinds="b")
    if state["_spread"] is not None:
        shape = (N_QUANTILES, len(state["_table"].numbers))
        check_arrays(state["_spread"]._asdict(), {"errors": shape})


def check_table(table: Table, n_features: int) -> None:
    """Raise ValueError unless each column has a dtype, and each value of a category a unit."""
    must(table.library in ("numpy", "pandas", "polars"), f"library={table.library!r} is unknown")
    must(table.n_columns == n_features, "the columns' number differs")
    names = table.dtypes
    fits = names.dtype == object and len(names) in (1, n_features)
    must(fits, "the columns' dtypes must be one each")
    columns = [category.column for category in table.categories]
    must(columns == sorted(set(columns)), "the categories are not in order")
    must(all(column < n_features for column in columns), "a category is of no column")
    must(all(is_numeric(table.dtype(i)) for i in table.numbers), "a dtype of numbers is unknown")
    for category in table.categories:
        _check_category(category)


def _check_category(category: Category) -> None:
    parts, n = category._asdict(), len(category.values)
    check_arrays(parts, {"values": (n,)}, kinds="biufO")
    check_arrays(parts, {"units": (n,), "shown": (category.n_units,)}, kinds="i")
    must(0 < category.n_units <= MOST_VALUES, "a category has too many units")
    units, shown = category.units, category.shown
    fits = ((units >= -1) & (units < len(shown))).all() and ((shown >= -1) & (shown < n)).all()
    must(bool(fits), "a value of a category has no unit")


def check_arrays(arrays: Any, shapes: dict[str, tuple[int, ...]], kinds: str = "f") -> None:
    for name, shape in shapes.items():
        array = arrays[name]
        fits = array.shape == shape and array.dtype.kind in kinds
        must(fits, f"{name} must be of shape {shape}, not {array.dtype} of {array.shape}")


def must(holds: bool, else_: str) -> None:
    if not holds:
        raise ValueError(f"{else_}.")
