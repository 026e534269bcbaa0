"""scikit-learn's own checks, for all estimators, no expected failure."""

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderFeatures,
    AutoencoderImputer,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)

# Longer fits than those below. By default the first two train for up to 300 epochs.
LONG = [DenoisingAutoencoder(), VariationalAutoencoder(), AutoencoderImputer(max_epochs=30)]
ESTIMATORS = [
    AutoencoderTransformer(),
    DenoisingAutoencoder(max_epochs=4),
    VariationalAutoencoder(max_epochs=4),
    AutoencoderImputer(max_epochs=4, hidden_layer_sizes=(16,)),
    AutoencoderFeatures(n_components=16, max_epochs=4),
    AutoencoderAnomalyDetector(),
]
TRANSFORMERS = ESTIMATORS[:5]


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(LONG)
def test_scikit_learn_checks_of_long_fits(estimator, check):
    check(estimator)


# What scikit-learn runs on its own estimators only.
_OWN_CHECKS = [
    "check_param_validation",
    "check_dataframe_column_names_consistency",
    "check_inplace_ensure_writeable",
    "check_all_zero_sample_weights_error",
]
_OWN_TRANSFORMER_CHECKS = [
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
    "check_get_feature_names_out_error",
]


def _run(name, estimator):
    check = getattr(estimator_checks, name, None)
    if check is None:
        pytest.skip(f"this scikit-learn has no {name}")
    if "pandas" in name or "dataframe" in name:
        pytest.importorskip("pandas")
    if "polars" in name:
        pytest.importorskip("polars")
    check(type(estimator).__name__, estimator)


@pytest.mark.parametrize("name", _OWN_CHECKS)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_checks_that_scikit_learn_runs_on_itself(name, estimator):
    _run(name, estimator)


# The checks give arrays to what was fitted on frames.
@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names:UserWarning")
@pytest.mark.parametrize("name", _OWN_TRANSFORMER_CHECKS)
@pytest.mark.parametrize("estimator", TRANSFORMERS, ids=lambda e: type(e).__name__)
def test_transformer_checks_that_scikit_learn_runs_on_itself(name, estimator):
    _run(name, estimator)
