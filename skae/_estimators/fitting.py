"""A fit in its steps: validate, scale, build; train; what is trained becomes a model."""

import dataclasses
import functools
import math
from collections.abc import Iterator
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from skae._data.categories import Categories
from skae._data.convert import dense_chunks, weighted_chunks
from skae._data.loaded import Rows, content_keys, load_rows
from skae._data.projected import ProjectedRows
from skae._data.scale import AffineScaler, Scaler, unscaled
from skae._data.shards import local
from skae._data.streamed import (
    block_length,
    sample_rows,
    sampled,
    scaled_rows,
)
from skae._data.types import FloatArray, MatrixLike
from skae._estimators.scaling import check_targets, fitted_scaler
from skae._model.model import Model
from skae._networks.builders import Builder
from skae._networks.conv import BUILDERS
from skae._networks.dense import DenseNetwork, DenseSpec
from skae._networks.factory import (
    Network,
    Spec,
    as_dtype,
    copied,
    differences,
    initialize,
    state_shapes,
    trained_part,
)
from skae._networks.features import FeaturesNetwork, FeaturesSpec, cuts_of
from skae._networks.fronted import FrontedNetwork
from skae._networks.gaps import Gaps
from skae._networks.principal import AxesProducts, start_as_pca, start_as_shares
from skae._networks.scattered import Front, ScatteredSpec
from skae._networks.subspace import Projection, SubspaceNetwork, SubspaceSpec
from skae._runtime.device import computing, resolve_device, resolve_precision, trains_exactly
from skae._runtime.memory import check_fits
from skae._runtime.randomness import FRONT_STREAM, START_STREAM
from skae._runtime.tuning import (
    FACTOR_PASSES,
    FACTOR_ROWS,
    FEATURE_ROWS,
    FEW_LATENTS,
    PATH_WEIGHT,
    START_ROWS,
    SUBSPACE_AXES,
)
from skae._training.feeds import trained_on
from skae._training.job import Job, Start
from skae._training.losses import LossKind
from skae._training.monitor import Monitor
from skae._training.plan import TrainingPlan, TrainState
from skae._training.proof import held_back
from skae._training.stack import joined

# Numbers of wide rows that are dense at once: many rows for each pass over all axes.
_BLOCK_VALUES = 1 << 24

# Numbers in the coefficients from which a front learns its subspace, about.
_FRONT_VALUES = 1 << 25


# Architectures behind a front, which are trained on coordinates of the rows.
_FRONTED = (SubspaceSpec, ScatteredSpec, FeaturesSpec)


@dataclasses.dataclass
class Prepared:
    """What is to be trained, and what else a fitted estimator is made of.

    Attributes
    ----------
    X : array, source or CSR matrix of shape (n_samples, n_features)
        The checked rows of positive weight.
    weights : ndarray of shape (n_samples,) or None
    scaler : Scaler
    job : Job
    network : Network
        What the job trains, with a front that it does not see.
    loss : name, function or tuple of these
    dtype : torch.dtype
        Of the results.
    """

    X: Any
    weights: FloatArray | None
    scaler: Scaler
    job: Job
    network: Network
    loss: LossKind
    dtype: torch.dtype

    def model(self) -> Model:
        """The model as training has it now."""
        with computing(self.job.network.device, 0.0):
            network = as_dtype(self.network, self.dtype)
            return Model(network, self.scaler, self.loss, self.X.shape[1])


class _Setting(NamedTuple):
    """What the parameters stand for, given the rows."""

    spec: Spec
    plan: TrainingPlan
    device: torch.device
    dtype: torch.dtype
    train_dtype: torch.dtype
    starts_as_pca: bool
    proves: bool


def prepare(
    estimator: Any,
    X: MatrixLike,
    sample_weight: Any,
    *,
    resume: bool,
    one_pass: bool,
    X_val: MatrixLike | None = None,
    X_noisy: MatrixLike | None = None,
) -> Prepared:
    """All of a fit up to the training.

    Parameters
    ----------
    estimator : BaseAutoencoder
    X, sample_weight
        As the caller passed them.
    resume : bool
        Whether to go on from the estimator's network and moments.
    one_pass : bool
        Whether to train for one epoch at a constant rate.
    X_val : array or DataFrame, optional
        Rows to hold out in place of some of X.
    X_noisy : array or DataFrame, optional
        What the network gets in place of X, which it is to give.
    """
    if resume or one_pass:
        _check_size_is_known(estimator)
    if resume and not hasattr(estimator, "_train_state"):
        raise ValueError(
            f"This {type(estimator).__name__} cannot be trained on: its training state was left "
            f"out, by skae.io.for_prediction or save(..., for_training=False). Train on the one "
            f"that was fitted; or fit anew, with warm_start=False."
        )
    rows, weights = estimator._training_rows(X, sample_weight, reset=not resume)
    setting = _resolved(estimator, rows, resume, one_pass)
    scaler = fitted_scaler(estimator, rows, weights, setting.plan, resume)
    if X_noisy is None and _keeps_path(scaler, setting):
        setting = setting._replace(plan=dataclasses.replace(setting.plan, path_weight=PATH_WEIGHT))
    noisy = None
    if X_noisy is not None:
        noisy, _ = estimator._training_rows(X_noisy, sample_weight, reset=False)
        scaler = scaler.widened(weighted_chunks(noisy, None))
        setting = setting._replace(plan=dataclasses.replace(setting.plan, noise=None))
    job, network = _built(estimator, rows, weights, scaler, setting, resume)
    if noisy is not None:
        job.rows.noisy = _beside(network, noisy, scaler)
    if X_val is not None:
        held_out, _ = estimator._training_rows(X_val, None, reset=False)
        plan = dataclasses.replace(job.plan, early_stopping=False)  # of no rows of X
        job = job._replace(plan=plan)
        job.rows.validation = _beside(network, held_out, scaler)
    return Prepared(rows, weights, scaler, job, network, setting.plan.loss, setting.dtype)


def _keeps_path(scaler: Scaler, setting: _Setting) -> bool:
    """Whether latents keep telling linearly what PCA's components tell.

    Few latents of many flags would bend to rebuild as many of these as they can.
    """
    spec, plan = setting.spec, setting.plan
    if not (setting.starts_as_pca and isinstance(spec, DenseSpec) and plan.noise is None):
        return False
    has_few = spec.n_latents <= FEW_LATENTS * spec.n_features
    return has_few and isinstance(scaler, AffineScaler) and scaler.is_of_flags


def _beside(network: Network, X: Any, scaler: Scaler) -> Rows:
    """Other rows, as those that are trained on are."""
    like = network.parameters
    parts, scaler = _as_trained(network, X, scaler)
    each = [load_rows(part, None, scaler, like.dtype, like.device, False) for part in parts]
    return joined(each, [1] * len(each))[0]


def _as_trained(network: Network, X: Any, scaler: Scaler) -> tuple[list[Any], Scaler]:
    """Rows and their scaling, as what is trained gets them.

    Behind a front, if there is one: each member that has one of its own gets other rows.
    """
    if not isinstance(network, FrontedNetwork):
        return [X], scaler
    like, width = network.parameters, network.spec.n_features
    fronts: list[Any] = [network.ends_of(member)[0] for member in range(network.n_members)]
    takes_nan = math.isnan(network.missing)
    projects = [own if takes_nan else functools.partial(_filled, own) for own in fronts]
    pairs = zip(projects, fronts, strict=True)
    parts = [ProjectedRows(X, scaler, p, width, like, float(own.flops)) for p, own in pairs]
    return parts, unscaled(width)


def _check_size_is_known(estimator: Any) -> None:
    if not isinstance(estimator.n_components, (str, Integral)):
        raise ValueError(
            f"n_components={estimator.n_components!r} is a share of the variance, by which fit "
            f"chooses a size. Pass a whole number, or train what truncate(n_components_) gives."
        )


def _resolved(estimator: Any, X: Any, resume: bool, one_pass: bool) -> _Setting:
    n_rows, n_features = X.shape
    device = resolve_device(estimator.device)
    dtype, product_dtype = resolve_precision(estimator.precision, device)
    spec = estimator._network_spec(n_features)
    if type(spec) is DenseSpec and _narrows(estimator, X, resume, one_pass):
        spec = _narrowed(estimator, spec, n_rows, resume)
    starts_as_pca = estimator._starts_as_pca(spec)
    if starts_as_pca:
        spec = dataclasses.replace(spec, linear_path=True)
    plan = estimator._plan(n_rows, product_dtype, one_pass, starts_as_pca)
    # What several members see of wide rows is small enough to be loaded.
    if not (isinstance(spec, SubspaceSpec) and spec.n_members > 1):
        plan = dataclasses.replace(plan, block_length=block_length(X, dtype, len(plan.seeds)))
    train_dtype = dtype
    # Convolutions have no fast kernels in float64.
    if trains_exactly(n_rows, plan.batch_size, device) and estimator.network not in BUILDERS:
        train_dtype = torch.float64
        plan = dataclasses.replace(plan, product_dtype=train_dtype)
    # Whether to prove, on rows held back, that training betters PCA.
    proves = starts_as_pca and not one_pass and _may_be_proven(estimator, plan, X)
    return _Setting(spec, plan, device, dtype, train_dtype, starts_as_pca, proves)


def _filled(front: Any, rows: Tensor) -> Tensor:
    """Coordinates of scaled rows whose missing cells are at the mean."""
    coordinates: Tensor = front(rows.nan_to_num_(0.0))
    return coordinates


def _narrows(estimator: Any, X: Any, resume: bool, one_pass: bool) -> bool:
    """Whether the network works in the rows' principal subspace.

    For that, all rows are here, and no stream begins with them. What was begun goes on, whatever
    rows come then.
    """
    if local(X) is not X:
        return False
    if resume:
        return isinstance(estimator._model.network.spec, SubspaceSpec)
    begins = not one_pass and not estimator._input.is_patch
    return begins and X.shape[1] >= estimator._narrow_from(X)


def _narrowed(estimator: Any, spec: DenseSpec, n_rows: int, resume: bool) -> DenseSpec:
    """The architecture in the subspace, if that is smaller than all features.

    It has no more axes than a member has rows, but one for each latent.
    """
    n_axes = max(SUBSPACE_AXES, 2 * spec.n_latents)
    n_axes = max(spec.n_latents, min(n_axes, estimator._n_rows_of_member(n_rows)))
    if resume:
        n_axes = estimator._model.network.spec.n_features
    if n_axes >= spec.n_features:
        return spec
    settings = vars(spec) | {"n_features": n_axes, "n_given": spec.n_features}
    if isinstance(estimator.hidden_layer_sizes, str):
        settings["hidden_layer_sizes"] = estimator._autos().layers(n_axes)
    return SubspaceSpec(**settings)


def _may_be_proven(estimator: Any, plan: TrainingPlan, X: Any) -> bool:
    """Whether the user leaves it to us to hold rows back, and all rows are here."""
    asked = estimator.early_stopping == "auto" and not plan.early_stopping
    # Training that may go on, or has no fixed end, ends where it is.
    ends = plan.lr_schedule != "constant" and not estimator.warm_start
    here = plan.block_length is None and local(X) is X
    return asked and ends and here and plan.noise is None and len(plan.seeds) == 1


def _built(
    estimator: Any,
    X: Any,
    weights: FloatArray | None,
    scaler: Scaler,
    setting: _Setting,
    resume: bool,
) -> tuple[Job, Network]:
    """Network and scaled rows."""
    plan, dtype, device = setting.plan, setting.train_dtype, setting.device
    choose = functools.partial(_held_back, X, plan.seeds[0])
    some: Rows | None = None
    if isinstance(setting.spec, FeaturesSpec):
        if not resume:
            like = torch.empty(0, dtype=dtype, device=device)
            some = _sample(X, weights, scaler, plan, FEATURE_ROWS, like)
        setting = setting._replace(spec=_with_pieces(estimator, setting.spec, some))
    if local(X) is X:
        _check_memory(X, scaler, setting)
    with computing(device, 0.0):
        if resume:
            network = _resumed_network(estimator, setting)
            state = TrainState.from_arrays(estimator._train_state, network.parameters)
        else:
            network, state = initialize(setting.spec, plan.seeds, dtype, device), TrainState()
    whole = network
    if isinstance(whole, FrontedNetwork):
        if local(X) is not X:
            raise ValueError(
                "network='scattering' learns its subspaces from rows of one process, but X has "
                "rows of several. Pass network='conv', or fit on some of the rows in one process."
            )
        if some is not None and isinstance(whole, FeaturesNetwork):
            whole.front.fit(some.values, some.weights)
        elif not resume and isinstance(whole, SubspaceNetwork):
            _fit_subspaces(whole.front, X, weights, scaler, plan)
        elif not resume:
            _fit_front(whole.front, X, weights, scaler, plan)
    network = trained_part(whole)
    parts, scaler = _as_trained(whole, X, scaler)
    order = (plan.block_length, len(plan.seeds), plan.batch_size)
    settings = (scaler, dtype, device, estimator._draws(), *order)
    each = [scaled_rows(part, weights, *settings) for part in parts]
    rows, firsts = joined(each, [1] * len(each))
    plan = dataclasses.replace(plan, first_rows=tuple(firsts) if len(each) > 1 else ())
    if not resume:
        check_targets(estimator, rows, plan.loss)
        if network.fills_gaps:
            _fit_gaps(network, X, weights, scaler, plan, rows.categories)
        if setting.starts_as_pca:
            _start_as_pca(network, parts, weights, scaler, plan, rows)
        if rows.categories is not None and isinstance(network, DenseNetwork):
            _, center, scale = rows.categories
            start_as_shares(network, center, scale)
    proves = setting.proves and not resume
    start = Start(network.parameters.clone(), choose) if proves else None
    return Job(network, rows, plan, state, Monitor(plan, network), start), whole


def _check_memory(X: Any, scaler: Scaler, setting: _Setting) -> None:
    """Refuse what has no room: weights, their gradients and moments, and the scaled rows."""
    spec, plan, size = setting.spec, setting.plan, setting.train_dtype.itemsize
    parts: dict[str, float] = {}
    is_known = isinstance(spec, DenseSpec) or isinstance(spec.builder, Builder)
    if setting.device.type == "cpu" and is_known:
        counts = {name: math.prod(shape) for name, shape in state_shapes(spec).items()}
        copies = 3 if plan.optimizer == "sgd" else 4
        parts["weights and moments"] = float(size * copies * counts.pop("parameters"))
        if counts:
            parts["fixed arrays"] = float(size * sum(counts.values()))
    loads = plan.block_length is None and scaler.name != "none"
    if loads:
        width = spec.n_features if isinstance(spec, _FRONTED) else X.shape[1]
        n_sets = len(plan.seeds) if isinstance(spec, SubspaceSpec) else 1
        parts["scaled rows"] = float(size * n_sets * X.shape[0] * width)
    check_fits(
        parts,
        "This fit",
        "Pass smaller hidden_layer_sizes or fewer rows, or rows in a file that is sliced, such as "
        "numpy.load(..., mmap_mode='r')",
    )


def _held_back(X: Any, seed: int) -> Tensor:
    """Rows to prove on that training helps, (n,)."""
    keys = np.concatenate([content_keys(rows) for _, rows in dense_chunks(X)])
    return held_back(torch.from_numpy(keys), seed)


def _resumed_network(estimator: Any, setting: _Setting) -> Network:
    """A copy of the fitted network, to be trained on."""
    old, spec = estimator._model.network, setting.spec
    if spec != old.spec or setting.dtype != old.parameters.dtype:
        raise ValueError(
            f"The network changed since the last fit: {differences(old.spec, spec)}. "
            "Pass warm_start=False, or clone the estimator, to train a new network."
        )
    return copied(old, spec, setting.device, setting.train_dtype)


def _fit_front(
    front: Front, X: Any, weights: FloatArray | None, scaler: Scaler, plan: TrainingPlan
) -> None:
    """Let a front learn its subspaces from some of the rows."""
    n_values = math.prod(front.center.shape)
    size = max(len(front.axes), min(START_ROWS, _FRONT_VALUES // n_values))
    rows = _sample(X, weights, scaler, plan, size, front.center)
    with computing(front.center.device, float(front.flops * len(rows))):
        front.fit(rows.values, rows.weights, plan.seeds[0])


def _fit_gaps(
    network: Network,
    X: Any,
    weights: FloatArray | None,
    scaler: Scaler,
    plan: TrainingPlan,
    categories: Categories | None,
) -> None:
    """Let a network that fills gaps learn what is expected from some of the rows."""
    like = torch.empty(0, dtype=torch.float64)
    rows = _sample(X, weights, scaler, plan, FACTOR_ROWS, like, START_STREAM)
    gaps = network.modules()[0]
    assert isinstance(gaps, Gaps)
    with computing(torch.device("cpu"), float(FACTOR_PASSES * network.flops * len(rows))):
        gaps.fit(rows.values, rows.weights, categories, plan.seeds[0])


def _with_pieces(estimator: Any, spec: FeaturesSpec, some: Rows | None) -> FeaturesSpec:
    """The architecture, with as many pieces of each column as some rows ask for, or as before."""
    if some is None:
        pieces = estimator._model.network.spec.pieces
    else:
        pieces = tuple(len(cuts) - 1 for cuts in cuts_of(some.values, some.weights))
    return dataclasses.replace(spec, n_features=sum(pieces), pieces=pieces)


def _sample(
    X: Any,
    weights: FloatArray | None,
    scaler: Scaler,
    plan: TrainingPlan,
    size: int,
    like: Tensor,
    stream: int = FRONT_STREAM,
) -> Rows:
    """Some of the scaled rows, from which a front learns; as ``like`` in dtype and device."""
    some, own = sampled(X, weights, size, plan.block_length, plan.seeds[0], stream)
    return load_rows(some, own, scaler, like.dtype, like.device, False)


def _fit_subspaces(
    projection: Projection, X: Any, weights: FloatArray | None, scaler: Scaler, plan: TrainingPlan
) -> None:
    """Let wide rows tell each member the principal axes of those that it is trained on."""
    n_rows, n_features = X.shape
    length = max(1, _BLOCK_VALUES // n_features)
    trained = trained_on(None, plan, n_rows, torch.arange(n_rows)).numpy()

    def blocks(chosen: np.ndarray) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for rows, own in weighted_chunks(X, chosen, length):
            scaled = torch.empty(rows.shape)
            scaler.transform(rows, scaled.numpy())
            yield scaled.nan_to_num_(0.0), torch.as_tensor(own)

    for member, own in enumerate(trained):
        chosen = own.astype(np.float64) if weights is None else own * weights
        # On one thread: bits of wide products may depend on how many there are.
        with computing(torch.device("cpu"), 0.0):
            projection.fit(member, functools.partial(blocks, chosen), plan.seeds[member])


def _start_as_pca(
    network: Network,
    parts: list[Any],
    weights: FloatArray | None,
    scaler: Scaler,
    plan: TrainingPlan,
    rows: Rows,
) -> None:
    """Let each member begin as PCA of the rows that it is trained on, or of some of them.

    ``parts`` has one set of rows for all members, or one for each.
    """
    assert isinstance(network, DenseNetwork)
    (n_rows, n_features), place = parts[0].shape, (plan.block_length, plan.seeds[0], START_STREAM)
    own = trained_on(rows, plan, n_rows, sample_rows(n_rows, START_ROWS, *place))
    some = [sampled(part, weights, START_ROWS, *place) for part in parts]
    like, cpu = network.parameters, torch.device("cpu")
    samples = [load_rows(*pair, scaler, like.dtype, cpu, False) for pair in some]
    values = samples[0].values if len(samples) == 1 else torch.stack([s.values for s in samples])
    of_members = own.to(values)
    if samples[0].weights is not None:
        of_members *= samples[0].weights
    n_values = samples[0].values.numel()
    products = functools.partial(
        AxesProducts, len(samples[0].values), n_features, network.spec.n_latents
    )
    with computing(cpu, 2.0 * n_values * n_features, products):
        # Values that are the caller's are read alone.
        spare = not isinstance(some[0][0], np.ndarray)
        start_as_pca(network, values, of_members, plan.seeds, spare)
