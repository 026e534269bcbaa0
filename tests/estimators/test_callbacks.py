"""scikit-learn's callbacks, from 1.9 on: an epoch is a task."""

import threading
import warnings

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.model_selection import (
    GridSearchCV,
)
from sklearn.pipeline import Pipeline

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)

RNG = np.random.default_rng(0)

X = RNG.normal(size=(200, 6)) @ RNG.normal(size=(6, 6))

SMALL = {
    "n_components": 3,
    "hidden_layer_sizes": (16,),
    "batch_size": 64,
    "max_epochs": 5,
    "random_state": 0,
    "device": "cpu",
}

CLASSES = [
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
    AutoencoderAnomalyDetector,
]

each_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


@pytest.fixture
def callback():
    return pytest.importorskip("sklearn.callback")


class Recorder:
    """Records its hooks; asks to stop after some epochs."""

    max_propagation_depth = None

    def __init__(self, stop_after=None, raise_after=None):
        self.events, self.tasks, self.scores, self.fitted = [], [], [], []
        self.stop_after, self.raise_after = stop_after, raise_after

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        self.events.append(f"begin {context.task_name}")
        self.given = X, y, metadata

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        self.events.append(f"end {context.task_name}")
        if context.task_name != "epoch":
            return False
        self.tasks.append(context.task_id)
        self.n_tasks = context.parent.max_subtasks
        self.scores.append(fitted_estimator.score_samples(X))
        self.fitted.append(fitted_estimator)
        if len(self.tasks) == self.raise_after:
            raise KeyboardInterrupt
        return len(self.tasks) == self.stop_after


def _scored_while_training(cls):
    """A detector calibrates its scores when it is trained; before, they are the errors."""
    if cls is AutoencoderAnomalyDetector:
        # Of several members, those that have not seen a row score it; here there is one.
        return SMALL | {"anomaly_score": "reconstruction", "n_estimators": 1}
    return SMALL


@each_class
@pytest.mark.usefixtures("callback")
def test_an_epoch_is_a_task(cls):
    recorder, weights = Recorder(), np.ones(len(X))
    settings = _scored_while_training(cls) | {"init": "random"}
    estimator = cls(**settings).set_callbacks(recorder).fit(X, sample_weight=weights)
    epochs = ["begin epoch", "end epoch"] * 5
    assert recorder.events == ["setup", "begin fit", *epochs, "end fit", "teardown"]
    assert recorder.tasks == [0, 1, 2, 3, 4]
    assert recorder.n_tasks == 5
    assert recorder.given[0] is X
    assert recorder.given[1] is None
    assert recorder.given[2]["sample_weight"] is weights
    np.testing.assert_array_equal(estimator.score_samples(X), recorder.scores[-1])
    assert recorder.scores[0].mean() < recorder.scores[-1].mean()
    plain = cls(**settings).fit(X, sample_weight=weights)
    np.testing.assert_array_equal(estimator.score_samples(X), plain.score_samples(X))


@pytest.mark.usefixtures("callback")
def test_estimator_of_an_epoch_keeps_that_epochs_weights():
    recorder = Recorder()
    AutoencoderTransformer(**SMALL).set_callbacks(recorder).fit(X)
    for fitted, scores in zip(recorder.fitted, recorder.scores, strict=True):
        np.testing.assert_array_equal(fitted.score_samples(X), scores)
        rebuilt = fitted.inverse_transform(fitted.transform(X))
        errors = np.square((rebuilt - X) / X.std(axis=0)).mean(axis=1)
        np.testing.assert_allclose(-scores, errors, rtol=1e-3)


@pytest.mark.usefixtures("callback")
def test_partial_fit_is_one_epoch():
    recorder = Recorder()
    AutoencoderTransformer(**SMALL).set_callbacks(recorder).partial_fit(X)
    assert recorder.events == [
        "setup", "begin fit", "begin epoch", "end epoch", "end fit", "teardown",
    ]  # fmt: skip


@each_class
@pytest.mark.usefixtures("callback")
def test_a_callback_that_asks_to_stop_is_honored(cls):
    recorder = Recorder(stop_after=2)
    estimator = cls(**_scored_while_training(cls)).set_callbacks(recorder).fit(X)
    assert estimator.n_iter_ == 2
    assert recorder.events[-4:] == ["begin epoch", "end epoch", "end fit", "teardown"]
    assert recorder.events.count("begin epoch") == 2
    np.testing.assert_array_equal(estimator.score_samples(X), recorder.scores[-1])


@pytest.mark.usefixtures("callback")
@pytest.mark.parametrize("changes", [{"early_stopping": True}, {"lr_schedule": "constant"}])
def test_every_task_that_begins_also_ends_when_training_stops_early(changes):
    recorder = Recorder()
    estimator = AutoencoderTransformer(
        **SMALL | {"max_epochs": 50}, **changes, n_iter_no_change=2, tol=100.0
    ).set_callbacks(recorder)
    estimator.fit(X)
    assert 1 < estimator.n_iter_ < 50
    assert recorder.events.count("begin epoch") == estimator.n_iter_
    assert recorder.events.count("end epoch") == estimator.n_iter_
    assert recorder.events[-2:] == ["end fit", "teardown"]


@pytest.mark.usefixtures("callback")
def test_interrupted_fit_tears_the_callbacks_down_and_leaves_no_trace():
    recorder = Recorder(raise_after=2)
    estimator = AutoencoderTransformer(**SMALL).set_callbacks(recorder)
    before = dict(vars(estimator))
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X)
    assert vars(estimator) == before
    assert recorder.events[-1] == "teardown"


@pytest.mark.usefixtures("callback")
def test_fitted_estimator_keeps_no_callback_context():
    estimator = AutoencoderTransformer(**SMALL).set_callbacks(Recorder()).fit(X)
    assert [name for name in vars(estimator) if "callback" in name] == ["_skl_callbacks"]
    estimator.set_callbacks().fit(X)
    assert not [name for name in vars(estimator) if "callback" in name]


@pytest.mark.usefixtures("callback")
def test_pipeline_propagates_its_callbacks():
    recorder = Recorder()
    pipeline = Pipeline([("same", PCA(4)), ("latents", AutoencoderTransformer(**SMALL))])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not support callbacks")
        pipeline.set_callbacks(recorder).fit(X)
    assert recorder.tasks == [0, 1, 2, 3, 4]
    assert recorder.events.count("setup") == recorder.events.count("teardown") == 1
    assert not hasattr(pipeline["latents"], "_skl_callbacks")
    assert not hasattr(pipeline["latents"], "_parent_callback_ctx")


@pytest.mark.usefixtures("callback")
def test_grid_search_propagates_its_callbacks():
    recorder = Recorder()
    estimator = AutoencoderTransformer(**SMALL | {"max_epochs": 2})
    search = GridSearchCV(estimator, {"n_components": [1, 2]}, cv=2).set_callbacks(recorder)
    search.fit(X)
    # Two candidates on two folds, and the refit, of two epochs each.
    assert recorder.tasks == [0, 1] * 5
    assert recorder.events.count("setup") == recorder.events.count("teardown") == 1
    plain = GridSearchCV(estimator, {"n_components": [1, 2]}, cv=2).fit(X)
    assert search.best_score_ == plain.best_score_


def test_scoring_monitor_logs_a_score_an_epoch(callback):
    scoring = {"score": lambda estimator, X, y: estimator.score(X)}
    monitor = callback.ScoringMonitor(scoring=scoring)
    estimator = AutoencoderTransformer(**SMALL, init="random").set_callbacks(monitor)
    estimator.fit(X, np.zeros(len(X)))
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert [row["task_id"] for row in rows] == [0, 1, 2, 3, 4]
    scores = [row["score"] for row in rows]
    assert scores[-1] == pytest.approx(estimator.score(X), rel=1e-6)
    assert scores[0] < scores[-1]


def test_progress_bar_of_scikit_learn_shows_the_epochs(callback, capfd, monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "200")
    estimator = AutoencoderTransformer(**SMALL).set_callbacks(callback.ProgressBar())
    estimator.fit(X)
    out = capfd.readouterr().out
    assert "AutoencoderTransformer" in out
    assert "100%" in out
    # scikit-learn itself leaves threads that listen for other processes.
    alive = [type(thread).__name__ for thread in threading.enumerate()]
    assert "RichProgressMonitor" not in alive
