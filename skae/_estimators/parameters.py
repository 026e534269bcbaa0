"""The parameters that all estimators share, and the network and training plan they stand for."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, NamedTuple

import torch
from sklearn.base import BaseEstimator

from skae._data.spec import InputSpec, as_column, sizes_of
from skae._data.types import Device
from skae._estimators.column_losses import losses_of_columns
from skae._estimators.other_names import OtherNamesMixin
from skae._estimators.sklearn_private import HasMethods, Interval, StrOptions, refuse_booleans
from skae._networks.activations import ACTIVATIONS
from skae._networks.conv import BUILDERS, SIGNAL_NETWORKS, image_builder
from skae._networks.dense import DenseSpec
from skae._networks.factory import Spec
from skae._networks.modules import ModuleSpec
from skae._networks.principal import can_start_as_pca
from skae._networks.scattered import scattered_spec
from skae._runtime.randomness import draw_seed, member_seeds
from skae._runtime.tuning import EPOCHS_FROM_PCA, LEARNING_RATE, MOST_EPOCHS, NEAR_MARGIN
from skae._training import auto
from skae._training.losses import LOSSES, LossKind, is_of_values
from skae._training.optimizers import OPTIMIZERS
from skae._training.plan import SCHEDULES, TrainingPlan


class Autos(NamedTuple):
    """What "auto" stands for, where estimators differ.

    Attributes
    ----------
    init : str
        For networks that can start as PCA.
    layers : callable
        From a number of features to the hidden layers.
    scaling : str
        For features that do not look like pixels.
    learning_rate : float
    most_epochs : int
    limited : bool
        Whether rows are rebuilt within the limits of features that look like pixels.
    fenced : bool
        Whether a few values far out are cut off in the scaling and in training.
    margin : float
        How far beyond the range of training rows a network gets others, in lengths of the range.
    usual : float
        How far from its center a scaled feature may be in any case.
    """

    init: str = "pca"
    layers: Callable[[int], tuple[int, ...]] = auto.hidden_layer_sizes
    scaling: str = "pairs"
    learning_rate: float = LEARNING_RATE
    most_epochs: int = MOST_EPOCHS
    limited: bool = True
    fenced: bool = False
    margin: float = NEAR_MARGIN
    usual: float = 0.0


class AutoencoderParameters(OtherNamesMixin, BaseEstimator):
    """The constructor's contract; not for use by itself."""

    _parameter_constraints: dict[str, list[Any]] = {
        "n_components": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": [
            StrOptions({"auto"}),
            "array-like",
            Interval(Integral, 1, None, closed="left"),
        ],
        "network": [StrOptions({"auto", "mlp", "conv", "conv1d"}), callable],
        "image_shape": [None, "array-like"],
        "categorical_features": [StrOptions({"from_dtype"}), "array-like", None],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "loss": [StrOptions(set(LOSSES)), callable, dict],
        "scaling": [
            StrOptions({"auto", "standard", "common", "minmax", "robust", "mixed"}),
            HasMethods(["fit", "transform", "inverse_transform"]),
            None,
        ],
        "output_bounds": [StrOptions({"nonnegative"}), "array-like", None],
        "normalization": [StrOptions({"auto", "batch", "layer"}), None],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "latent_l1": [Interval(Real, 0, None, closed="left")],
        "init": [StrOptions({"auto", "pca", "random"})],
        "optimizer": [StrOptions(set(OPTIMIZERS))],
        "learning_rate": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "lr_schedule": [StrOptions(set(SCHEDULES))],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_epochs": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), None],
        "early_stopping": [StrOptions({"auto"}), "boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "device": [str, torch.device],
        "precision": [StrOptions({"float32", "bfloat16", "float64", "auto"})],
        "verbose": ["verbose"],
    }

    _input: InputSpec

    def __init__(
        self,
        *,
        n_components: Any = "auto",
        hidden_layer_sizes: Any = "auto",
        network: Any = "auto",
        image_shape: Any = None,
        categorical_features: Any = "from_dtype",
        activation: str = "silu",
        loss: str = "squared_error",
        scaling: Any = "auto",
        output_bounds: Any = None,
        normalization: str | None = "auto",
        dropout: float = 0.0,
        weight_decay: float = 0.0,
        latent_l1: float = 0.0,
        init: str = "auto",
        optimizer: str = "adam",
        learning_rate: Any = "auto",
        lr_schedule: str = "one_cycle",
        batch_size: Any = "auto",
        max_epochs: Any = "auto",
        tol: float = 1e-4,
        n_iter_no_change: int | None = 10,
        early_stopping: Any = "auto",
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        random_state: Any = None,
        device: Device = "auto",
        precision: str = "float32",
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.network = network
        self.image_shape = image_shape
        self.categorical_features = categorical_features
        self.activation = activation
        self.loss = loss
        self.scaling = scaling
        self.output_bounds = output_bounds
        self.normalization = normalization
        self.dropout = dropout
        self.weight_decay = weight_decay
        self.latent_l1 = latent_l1
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
        self.verbose = verbose

    def _validate_params(self) -> None:
        super()._validate_params()
        refuse_booleans(self)

    # What estimators tell of themselves: the values here are those of the plainest one.

    def _autos(self) -> Autos:
        return Autos()

    def _n_members(self) -> int:
        """How many networks are trained in one pass."""
        return 1

    def _n_rows_of_member(self, n_rows: int) -> int:
        """How many of the training rows each of them is trained on."""
        return n_rows

    def _draws(self) -> bool:
        """Whether a row is changed at random each time it is seen."""
        return self.dropout > 0

    def _takes_signals(self) -> bool:
        """Whether what is given are signals, along time, and no images."""
        return isinstance(self.network, str) and self.network in SIGNAL_NETWORKS

    def _given_shape(self) -> tuple[int, ...] | None:
        if self.image_shape is None:
            return None
        shape = sizes_of("image_shape", self.image_shape)
        if not self._takes_signals():
            return shape
        if len(shape) > 2:
            raise ValueError(
                f"image_shape={shape} must be (length,) or (length, channels), since "
                f"network={self.network!r} takes signals. For images, pass network='conv'."
            )
        return as_column(shape)

    def _loss(self) -> LossKind:
        """The loss, or one for each number of a row."""
        if not isinstance(self.loss, dict):
            return self.loss
        return losses_of_columns(self.loss, self._table, getattr(self, "feature_names_in_", []))

    def _n_latents(self, n_features: int) -> int:
        if isinstance(self.n_components, str):
            return auto.n_components(n_features)
        return int(self.n_components)

    # What the parameters stand for.

    def _network_spec(self, n_features: int) -> Spec:
        latents, hidden = self._n_latents(n_features), self.hidden_layer_sizes
        if not isinstance(hidden, str):
            hidden = sizes_of("hidden_layer_sizes", hidden)
        builder = self._builder(hidden)
        if builder is not None:
            return ModuleSpec(builder, self._input.network_shape, latents)
        layers = self._autos().layers if isinstance(hidden, str) else lambda width: hidden
        settings: dict[str, Any] = {
            "n_components": (latents,) * self._n_members(),
            "activation": self.activation,
            "normalization": None if self.normalization == "auto" else self.normalization,
            "dropout": float(self.dropout),
        }
        if self.network == "scattering":
            given = self._input
            return scattered_spec(given.image_shape, given.network_shape, layers, **settings)
        return DenseSpec(n_features, layers(n_features), **settings)

    def _narrow_from(self, X: Any) -> float:
        """Features from which networks work in the principal subspace of the rows."""
        return float("inf")

    def _builder(self, hidden: Any) -> Callable[..., Any] | None:
        """What builds the network's modules; None for the dense network."""
        if callable(self.network):
            return self.network
        if self.network not in BUILDERS:
            return None
        channels = None if isinstance(hidden, str) else hidden
        settings = (self.activation, self.normalization, float(self.dropout))
        return image_builder(self.network, self._input.image_shape, channels, *settings)

    def _starts_as_pca(self, spec: Spec) -> bool:
        able = isinstance(spec, DenseSpec) and can_start_as_pca(spec)
        # A fixed path takes no penalty on its latents.
        able = able and is_of_values(self._loss()) and self.latent_l1 == 0
        if self.init == "pca" and not able:
            raise ValueError(
                "init='pca' needs network='mlp', and neither sparse latents nor latent_l1 nor a "
                "loss that is 'log_loss', 'poisson' or a function. Pass init='auto' to have it "
                "where it is possible."
            )
        return able and (self._autos().init if self.init == "auto" else self.init) == "pca"

    def _plan(
        self, n_rows: int, product_dtype: torch.dtype, one_pass: bool, starts_as_pca: bool
    ) -> TrainingPlan:
        n_rows, n_members = self._n_rows_of_member(n_rows), self._n_members()
        batch_size = self.batch_size
        if isinstance(batch_size, str):
            batch_size = self._auto_batch(n_rows)
        max_epochs = self.max_epochs
        if isinstance(max_epochs, str):
            max_epochs = self._auto_epochs(n_rows, int(batch_size), starts_as_pca)
        rate = self.learning_rate
        if isinstance(rate, str):
            rate = self._autos().learning_rate
        seeds = member_seeds(draw_seed(self.random_state), n_members)
        return TrainingPlan(
            loss=self._loss(),
            optimizer=self.optimizer,
            learning_rates=(float(rate),) * n_members,
            weight_decays=(float(self.weight_decay),) * n_members,
            lr_schedule="constant" if one_pass else self.lr_schedule,
            batch_size=int(batch_size),
            max_epochs=1 if one_pass else int(max_epochs),
            tol=float(self.tol),
            n_iter_no_change=self.n_iter_no_change,
            early_stopping=not one_pass and self._holds_out(n_rows),
            validation_fraction=float(self.validation_fraction),
            latent_l1=float(self.latent_l1),
            seeds=seeds,
            product_dtype=product_dtype,
            max_samples=n_rows,
            places=tuple((seeds[0], k / n_members) for k in range(n_members)),
            image_shape=self._input.image_shape,
        )

    def _auto_batch(self, n_rows: int) -> int:
        return auto.batch_size(n_rows)

    def _auto_epochs(self, n_rows: int, batch_size: int, starts_as_pca: bool) -> int:
        most, draws = self._autos().most_epochs, self._draws()
        if starts_as_pca and not draws:
            most = min(most, EPOCHS_FROM_PCA)
        return auto.max_epochs(n_rows, batch_size, draws, most)

    def _holds_out(self, n_rows: int) -> bool:
        """Whether rows are held out, to stop early."""
        holds_out = self.early_stopping
        if isinstance(holds_out, str):
            holds_out = auto.early_stopping(n_rows, self.lr_schedule)
        if holds_out and n_rows < 2:
            raise ValueError(
                "early_stopping=True holds rows out, but X has n_samples = 1. "
                "Pass early_stopping=False."
            )
        return bool(holds_out)
