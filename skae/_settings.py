"""The parameters that all estimators share, and the network and training plan they stand for."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    Options,  # noqa: F401
    RealNotInt,  # noqa: F401
    StrOptions,
)

from skae.data.spec import InputSpec, sizes_of
from skae.losses import LOSSES
from skae.networks.activations import ACTIVATIONS
from skae.networks.build import Spec
from skae.networks.conv import image_builder
from skae.networks.dense import DenseSpec
from skae.networks.modules import ModuleSpec
from skae.networks.principal import passes_lines
from skae.randomness import draw_seed, member_seeds
from skae.training import defaults
from skae.training.optimizers import OPTIMIZERS
from skae.training.plan import SCHEDULES, TrainingPlan


class Autos(NamedTuple):
    """What "auto" stands for, where estimators differ.

    ``init`` is for networks that can start as PCA, ``scaling`` for features that do not look
    like pixels; ``layers`` gives the hidden layers for a number of features. ``limited`` says
    whether rows are rebuilt within the limits of features that look like pixels.
    """

    init: str = "pca"
    layers: Callable[[int], tuple[int, ...]] = defaults.hidden_layer_sizes
    scaling: str = "standard"
    most_epochs: int = 300
    limited: bool = True


class AutoencoderSettings(BaseEstimator):
    """The constructor's contract; not for use by itself."""

    _parameter_constraints: dict[str, list[Any]] = {
        "n_components": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": [
            StrOptions({"auto"}),
            "array-like",
            Interval(Integral, 1, None, closed="left"),
        ],
        "network": [StrOptions({"auto", "mlp", "conv"}), callable],
        "image_shape": [None, "array-like"],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "loss": [StrOptions(set(LOSSES))],
        "scaling": [
            StrOptions({"auto", "standard", "common", "minmax", "robust", "mixed"}),
            HasMethods(["fit", "transform", "inverse_transform"]),
            None,
        ],
        "normalization": [StrOptions({"batch", "layer"}), None],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "latent_l1": [Interval(Real, 0, None, closed="left")],
        "init": [StrOptions({"auto", "pca", "random"})],
        "sparsity": [Interval(Integral, 1, None, closed="left"), None],
        "optimizer": [StrOptions(set(OPTIMIZERS))],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "lr_schedule": [StrOptions(set(SCHEDULES))],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_epochs": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), None],
        "early_stopping": [StrOptions({"auto"}), "boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "device": [str],
        "precision": [StrOptions({"float32", "bfloat16", "float64", "auto"})],
        "compile": ["boolean"],
        "verbose": ["verbose"],
    }

    # Noise on the inputs in training: none, unless the estimator has such parameters.
    noise: Any = None
    noise_level: float = 0.0

    # Whether the latents are put in order of importance: for transformers alone.
    ordered: bool = False

    # Weight of the divergence of drawn latents, and how it rises: for the variational one.
    beta: float | None = None
    kl_warm_up: float = 0.0

    _input: InputSpec

    def __init__(
        self,
        *,
        n_components="auto",
        hidden_layer_sizes="auto",
        network="auto",
        image_shape=None,
        activation="silu",
        loss="squared_error",
        scaling="auto",
        normalization=None,
        dropout=0.0,
        weight_decay=0.0,
        latent_l1=0.0,
        sparsity=None,
        init="auto",
        optimizer="adam",
        learning_rate=3e-3,
        lr_schedule="one_cycle",
        batch_size="auto",
        max_epochs="auto",
        tol=1e-4,
        n_iter_no_change=10,
        early_stopping="auto",
        validation_fraction=0.1,
        warm_start=False,
        random_state=None,
        device="auto",
        precision="float32",
        compile=False,
        verbose=0,
    ):
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.network = network
        self.image_shape = image_shape
        self.activation = activation
        self.loss = loss
        self.scaling = scaling
        self.normalization = normalization
        self.dropout = dropout
        self.weight_decay = weight_decay
        self.latent_l1 = latent_l1
        self.sparsity = sparsity
        self.init = init
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.lr_schedule = lr_schedule
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.compile = compile
        self.verbose = verbose

    def _validate_params(self) -> None:
        super()._validate_params()
        for name, value in self.get_params(deep=False).items():
            allowed = {kind for kind in self._parameter_constraints[name] if isinstance(kind, str)}
            if isinstance(value, (bool, np.bool_)) and not allowed & {"boolean", "verbose"}:
                raise ValueError(
                    f"The {name!r} parameter of {type(self).__name__} must be a number or one of "
                    f"its named options. Got {value!r} instead."
                )

    def _given_shape(self) -> tuple[int, ...] | None:
        return None if self.image_shape is None else sizes_of("image_shape", self.image_shape)

    def _n_members(self) -> int:
        """How many networks are trained in one pass."""
        return 1

    def _n_rows_of_member(self, n_rows: int) -> int:
        """How many of the training rows each of them is trained on."""
        return n_rows

    def _n_latents(self, n_features: int) -> int:
        if self.network == "unet":
            if self.n_components != "auto":
                raise ValueError(
                    f"network='unet' has no bottleneck: n_components={self.n_components!r} must be "
                    f"'auto'. Pass network='conv' for so many latents."
                )
            return n_features
        if isinstance(self.n_components, str):
            return defaults.n_components(n_features)
        if not isinstance(self.n_components, Integral):
            return defaults.most_components(n_features)
        return int(self.n_components)

    def _is_ordered(self) -> bool:
        """Whether the first latents are to be the best ones; a share of the variance needs it."""
        return bool(self.ordered) or not isinstance(self.n_components, (str, Integral))

    def _draws(self) -> bool:
        """Whether a row is changed at random each time it is seen."""
        corrupts = self.noise is not None or self.dropout > 0
        return corrupts or self._is_ordered() or self.beta is not None

    def _network_spec(self, n_features: int) -> Spec:
        latents = self._n_latents(n_features)
        sparsity = None if self.sparsity is None else int(self.sparsity)
        hidden = self.hidden_layer_sizes
        if not isinstance(hidden, str):
            hidden = sizes_of("hidden_layer_sizes", hidden)
        builder = self._builder(hidden)
        if self._is_ordered() and (builder is not None or sparsity is not None):
            raise ValueError(
                f"Latents are put in order (ordered={self.ordered!r}, n_components="
                f"{self.n_components!r}) by the dense network without sparsity alone. Pass "
                f"network='mlp' and sparsity=None, or ordered=False and a whole number."
            )
        drawn = self.beta is not None
        if builder is not None:
            shape = self._input.network_shape
            return ModuleSpec(builder, shape, latents, sparsity, bool(self.compile), drawn)
        return DenseSpec(
            n_features,
            self._autos().layers(n_features) if isinstance(hidden, str) else hidden,
            (latents,) * self._n_members(),
            self.activation,
            self.normalization,
            float(self.dropout),
            sparsity,
            self._is_ordered(),
            drawn,
        )

    def _builder(self, hidden: Any) -> Callable | None:
        """What builds the network's modules; None for the dense network."""
        if callable(self.network) or self.network in ("auto", "mlp"):
            return self.network if callable(self.network) else None
        channels = None if isinstance(hidden, str) else hidden
        settings = (self.activation, self.normalization, float(self.dropout))
        builder = image_builder(self.network, self._input.image_shape, channels, *settings)
        return builder if self.beta is None else builder.for_draws()

    def _autos(self) -> Autos:
        return Autos()

    def _starts_as_pca(self, spec: Spec) -> bool:
        able = isinstance(spec, DenseSpec) and passes_lines(spec) and self.loss != "log_loss"
        if self.init == "pca" and not able:
            raise ValueError(
                "init='pca' needs a linear path through the network: network='mlp' with activation "
                "'relu', 'silu' or 'gelu', without normalization, sparsity, draws and 'log_loss'. "
                "Pass init='auto' to have it where it is possible."
            )
        return able and (self._autos().init if self.init == "auto" else self.init) == "pca"

    def _plan(
        self, n_rows: int, product_dtype: torch.dtype, one_pass: bool, starts_as_pca: bool
    ) -> TrainingPlan:
        n_rows, n_members = self._n_rows_of_member(n_rows), self._n_members()
        early_stopping = self.early_stopping
        if isinstance(early_stopping, str):
            early_stopping = defaults.early_stopping(n_rows, self.lr_schedule)
        if early_stopping and not one_pass and n_rows < 2:
            raise ValueError(
                "early_stopping=True holds rows out, but X has n_samples = 1. "
                "Pass early_stopping=False."
            )
        batch_size = self.batch_size
        if isinstance(batch_size, str):
            batch_size = defaults.batch_size(n_rows)
        max_epochs = self.max_epochs
        if isinstance(max_epochs, str):
            most, draws = self._autos().most_epochs, self._draws()
            if starts_as_pca and not draws:
                most = min(most, defaults.EPOCHS_FROM_PCA)
            max_epochs = defaults.max_epochs(n_rows, batch_size, draws, most)
        return TrainingPlan(
            loss=self.loss,
            optimizer=self.optimizer,
            learning_rates=(float(self.learning_rate),) * n_members,
            weight_decays=(float(self.weight_decay),) * n_members,
            lr_schedule="constant" if one_pass else self.lr_schedule,
            batch_size=int(batch_size),
            max_epochs=1 if one_pass else int(max_epochs),
            tol=float(self.tol),
            n_iter_no_change=self.n_iter_no_change,
            early_stopping=bool(early_stopping) and not one_pass,
            validation_fraction=float(self.validation_fraction),
            latent_l1=float(self.latent_l1),
            seeds=member_seeds(draw_seed(self.random_state), n_members),
            product_dtype=product_dtype,
            noise=self.noise,
            noise_level=self.noise_level,
            max_samples=n_rows,
            image_shape=self._input.image_shape,
            beta=self.beta,
            kl_warm_up=0.0 if one_pass else float(self.kl_warm_up),
        )
