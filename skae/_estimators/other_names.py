"""Parameters as other libraries call them: the error says which one is meant."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

# By the names of MLPRegressor, PCA, IsolationForest, Keras, skorch and PyOD.
MEANT = {
    "alpha": "weight_decay, which is not divided by the number of rows in a batch",
    "max_iter": "max_epochs",
    "epochs": "max_epochs",
    "n_epochs": "max_epochs",
    "epoch_num": "max_epochs",
    "solver": "optimizer",
    "learning_rate_init": "learning_rate",
    "lr": "learning_rate",
    "latent_dim": "n_components",
    "encoding_dim": "n_components",
    "n_latents": "n_components",
    "hidden_neuron_list": "hidden_layer_sizes, without the latents, which are n_components",
    "hidden_neurons": "hidden_layer_sizes, without the latents, which are n_components",
    "layers": "hidden_layer_sizes, without the latents, which are n_components",
    "preprocessing": "scaling",
    "patience": "n_iter_no_change",
    "validation_split": "validation_fraction",
    "dropout_rate": "dropout",
    "seed": "random_state",
    "whiten": "a StandardScaler behind the estimator",
    "n_jobs": "the number of threads of torch, torch.set_num_threads",
}


class OtherNamesMixin:
    """Tells of unknown parameters which one is meant; not for use by itself."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = _telling(cls.__init__)  # type: ignore[method-assign]


def _telling(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor that knows the names of other libraries; for inspection it is as before."""
    known = inspect.signature(init).parameters
    kinds = {parameter.kind for parameter in known.values()}
    takes_all = inspect.Parameter.VAR_KEYWORD in kinds

    @functools.wraps(init)
    def telling(self: Any, *args: Any, **params: Any) -> None:
        for name in params:
            if name in MEANT and name not in known and not takes_all:
                cls_name = type(self).__name__
                raise TypeError(
                    f"{cls_name} has no parameter {name!r}. Pass {MEANT[name]}; "
                    f"help({cls_name}) describes all parameters."
                )
        init(self, *args, **params)

    return telling
