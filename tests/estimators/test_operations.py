"""Any order of operations, good and bad ones, keeps the promises.

Never a wrong shape, never NaN out, never a changed state after an error, and the same
results to the bit until the estimator is trained again.
"""

import pickle
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer, DenoisingAutoencoder
from skae.io import load, save

hypothesis = pytest.importorskip("hypothesis")
stateful = pytest.importorskip("hypothesis.stateful")
st = pytest.importorskip("hypothesis.strategies")

CLASSES = [AutoencoderTransformer, DenoisingAutoencoder, AutoencoderAnomalyDetector]
SMALL = {"n_components": 2, "hidden_layer_sizes": (4,), "max_epochs": 2, "device": "cpu"}
VALUES = {
    "n_components": [1, 3, "auto"],
    "hidden_layer_sizes": [(4,), (), 5, (4, 3)],
    "network": ["auto", "conv", "unet"],
    "activation": ["relu", "gelu", "tanh"],
    "loss": ["squared_error", "log_loss", "huber", "absolute_error"],
    "scaling": ["auto", "minmax", "robust", None],
    "normalization": ["batch", "layer", None],
    "dropout": [0.0, 0.5],
    "weight_decay": [0.0, 0.1],
    "latent_l1": [0.0, 0.1],
    "n_nonzero_coefs": [None, 1],
    "optimizer": ["adam", "sgd"],
    "learning_rate": [1e-3, 0.1],
    "lr_schedule": ["constant", "cosine"],
    "batch_size": ["auto", 1, 7],
    "early_stopping": [True, False],
    "warm_start": [True, False],
    "random_state": [0, 1, None],
    "precision": ["float32", "float64", "bfloat16"],
    "noise": ["masking", "swap", "affine", ("gaussian", "masking")],
    "noise_level": [0.0, 0.3],
    "patch_size": [None, 4, (4, 5)],
    "contamination": ["auto", 0.2, 0],
    "anomaly_score": ["auto", "isolation", "reconstruction"],
    "n_estimators": ["auto", 1, 2],
    "max_samples": ["auto", 0.5, 3],
    # None of these is of any use.
    "tol": [-1.0, "none"],
    "max_epochs": [0, 2.5],
    "validation_fraction": [0.0, 1.5],
    "verbose": [-1],
    "image_shape": [(2, 2), (0, 3), "square"],
}
RESULTS = ("transform", "reconstruct", "impute", "score_samples", "decision_function", "predict",
           "outlier_probability", "feature_contributions")  # fmt: skip


def table(n_rows, n_features, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n_rows, n_features)) * rng.lognormal(size=n_features) + 1.0
    rows[rng.random(rows.shape) < 0.1] = np.nan
    rows[0] = 1.0
    return rows


def images(n, seed=0):
    return np.random.default_rng(seed).random((n, 6, 5, 2)).astype(np.float32)


DATA = st.one_of(
    st.builds(table, st.sampled_from([1, 2, 5, 40]), st.sampled_from([1, 4]), st.integers(0, 3)),
    st.builds(images, st.sampled_from([1, 6]), st.integers(0, 3)),
)
BAD_DATA = st.sampled_from(
    [
        np.full((5, 4), np.inf),
        np.full((5, 4), np.nan),
        np.empty((0, 4)),
        np.ones((3, 2)),
        np.ones(4),
        np.array([["a", "b", "c", "d"]]),
        np.ones((2, 2, 2, 2, 2)),
        np.ones((3, 7, 5)),
        np.full((4, 4), 1e300),
        None,
    ]
)


class Operations(stateful.RuleBasedStateMachine):
    """One estimator, and what it gave when it was last trained."""

    @stateful.initialize(cls=st.sampled_from(CLASSES))
    def start(self, cls):
        self.estimator = cls(**SMALL, random_state=0)
        self.probe = self.expected = None

    @stateful.rule(data=DATA, again=st.booleans())
    def fit(self, data, again):
        if again and self.probe is not None:
            data = self.probe
        self._train("fit", data)

    @stateful.rule(data=DATA, again=st.booleans())
    def partial_fit(self, data, again):
        if again and self.probe is not None:
            data = self.probe
        self._train("partial_fit", data)

    @stateful.rule(data=BAD_DATA, name=st.sampled_from(["fit", "partial_fit", *RESULTS]))
    def bad_data(self, data, name):
        if name in ("fit", "partial_fit"):
            self._train(name, data)
        elif hasattr(self.estimator, name):
            self._attempt(lambda: getattr(self.estimator, name)(data))

    @stateful.rule(data=st.data(), name=st.sampled_from(sorted(VALUES)))
    def set_parameter(self, data, name):
        if name in self.estimator.get_params():
            self.estimator.set_params(**{name: data.draw(st.sampled_from(VALUES[name]))})

    @stateful.rule()
    def sensible_parameters(self):
        defaults = type(self.estimator)(**SMALL, random_state=0).get_params()
        self.estimator.set_params(**defaults)

    @stateful.rule()
    def cloned(self):
        assert "_model" not in vars(clone(self.estimator))
        assert clone(self.estimator).get_params() == self.estimator.get_params()

    @stateful.rule()
    def pickled(self):
        self.estimator = pickle.loads(pickle.dumps(self.estimator))

    @stateful.rule()
    def saved_and_loaded(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            if self._attempt(lambda: save(self.estimator, path)):
                self.estimator = load(path, device="cpu")
            else:
                assert not list(path.parent.iterdir())

    @stateful.invariant()
    def results_are_those_of_the_last_training(self):
        if self.expected is not None:
            for name, result in self._results().items():
                np.testing.assert_array_equal(result, self.expected[name], err_msg=name)
        else:
            with pytest.raises(NotFittedError):
                self.estimator.score_samples(np.ones((2, 4)))

    def _train(self, method, data):
        if self._attempt(lambda: getattr(self.estimator, method)(data)):
            self.probe = data
            self.expected = self._results()
            self._check(self.expected)

    def _attempt(self, operation):
        """Whether it succeeds; if it does not, nothing has changed."""
        before = dict(vars(self.estimator))
        try:
            operation()
        except (ValueError, TypeError):
            now = vars(self.estimator)
            assert now.keys() == before.keys()
            assert all(now[name] is before[name] for name in now)
            return False
        return True

    def _results(self):
        rows = self.probe
        if self.estimator._input.is_patch:
            # Other methods take patches alone.
            return {"reconstruct": self.estimator.reconstruct(rows)}
        names = [name for name in RESULTS if hasattr(self.estimator, name)]
        return {name: np.asarray(getattr(self.estimator, name)(rows)) for name in names}

    def _check(self, results):
        like_rows = {"reconstruct", "impute", "feature_contributions"}
        for name, result in results.items():
            shape = self.probe.shape if name in like_rows else (len(self.probe),)
            if name == "transform":
                shape = (len(self.probe), self.estimator.n_components_)
            assert result.shape == shape, name
            assert np.isfinite(result).all(), name
        assert np.isfinite(self.estimator.loss_curve_).all()
        assert len(self.estimator.loss_curve_) == self.estimator.n_iter_


def run(**settings):
    stateful.run_state_machine_as_test(
        Operations,
        settings=hypothesis.settings(
            deadline=None,
            database=None,
            # To shrink what is found takes many minutes.
            phases=[hypothesis.Phase.generate],
            report_multiple_bugs=False,
            suppress_health_check=list(hypothesis.HealthCheck),
            **settings,
        ),
    )


def test_any_order_of_operations_keeps_the_promises():
    run(max_examples=12, stateful_step_count=12, derandomize=True)


@pytest.mark.slow
def test_a_minute_of_random_operations_keeps_the_promises():
    end = time.monotonic() + 60
    while time.monotonic() < end:
        run(max_examples=10, stateful_step_count=30)
