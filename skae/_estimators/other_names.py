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

    def set_params(self, **params: Any) -> Any:
        """Set the parameters of this estimator.

        Parameters
        ----------
        **params : dict
            By name; as in scikit-learn.

        Returns
        -------
        self : object
            The estimator.
        """
        for name in set(params) - set(self.get_params(deep=False)):  # type: ignore[attr-defined]
            if name in MEANT:
                raise ValueError(_text(self, name))
        return super().set_params(**params)  # type: ignore[misc]


def _telling(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor that knows the names of other libraries; for inspection it is as before."""
    known = inspect.signature(init).parameters
    kinds = {parameter.kind for parameter in known.values()}
    takes_all = inspect.Parameter.VAR_KEYWORD in kinds

    @functools.wraps(init)
    def telling(self: Any, *args: Any, **params: Any) -> None:
        for name in params:
            if name in MEANT and name not in known and not takes_all:
                raise TypeError(_text(self, name))
        init(self, *args, **params)

    return telling


def _text(estimator: Any, name: str) -> str:
    return (
        f"{type(estimator).__name__} has no parameter {name!r}. Pass {MEANT[name]}; "
        f"help({type(estimator).__name__}) describes all parameters."
    )
