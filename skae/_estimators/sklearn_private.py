"""All that is used of what scikit-learn keeps private, beside methods that are overridden.

Where scikit-learn moves something, this is the file to change.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    Options,
    RealNotInt,
    StrOptions,
)
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.metaestimators import _safe_split as safe_split
from sklearn.utils.validation import _check_feature_names_in as check_feature_names_in
from sklearn.utils.validation import _check_method_params as check_method_params
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

__all__ = [
    "HasMethods",
    "Interval",
    "Options",
    "RealNotInt",
    "StrOptions",
    "check_feature_names_in",
    "check_method_params",
    "check_parameters",
    "check_sample_weight",
    "fit_context",
    "output_library",
    "refuse_booleans",
    "safe_split",
]

_Method = TypeVar("_Method", bound=Callable[..., Any])


def fit_context(*, prefer_skip_nested_validation: bool) -> Callable[[_Method], _Method]:
    """Validate parameters before the method, unless another estimator calls it."""
    context = _fit_context(prefer_skip_nested_validation=prefer_skip_nested_validation)
    return cast(Callable[[_Method], _Method], context)


def check_parameters(estimator: Any) -> None:
    """Raise unless all parameters keep to the class's ``_parameter_constraints``."""
    estimator._validate_params()


def refuse_booleans(estimator: Any) -> None:
    """Raise where a number is given as a boolean, which scikit-learn takes for an integer."""
    for name, value in estimator.get_params(deep=False).items():
        # A subclass may have parameters without constraints.
        constraints = estimator._parameter_constraints.get(name, "no_validation")
        if constraints == "no_validation" or not isinstance(value, (bool, np.bool_)):
            continue
        if not any(_takes_booleans(constraint, value) for constraint in constraints):
            raise ValueError(
                f"The {name!r} parameter of {type(estimator).__name__} must be a number or one of "
                f"its named options. Got {value!r} instead."
            )


def _takes_booleans(constraint: Any, value: Any) -> bool:
    if isinstance(constraint, str):
        return constraint in ("boolean", "verbose")
    if isinstance(constraint, Options):
        return any(option is bool(value) for option in constraint.options)
    return constraint is bool


def output_library(estimator: Any) -> str:
    """What ``set_output`` or the global configuration asks for: "default", "pandas", "polars"."""
    return cast(str, _get_output_config("transform", estimator)["dense"])
