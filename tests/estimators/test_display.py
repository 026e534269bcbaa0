"""What is shown of an estimator, and of a fit while it runs."""

import re
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)
from skae.model_selection import AutoencoderSearchCV

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


# Looks.


@each_class
def test_html_and_text_show_the_changed_parameters(cls):
    estimator = cls(n_components=7, activation="tanh")
    assert repr(estimator) == f"{cls.__name__}(activation='tanh', n_components=7)"
    for shown in (estimator, clone(estimator).set_params(**SMALL).fit(X)):
        html = shown._repr_html_()
        assert cls.__name__ in html
        assert "n_components" in html
    assert cls.__name__ in make_pipeline(StandardScaler(), estimator)._repr_html_()


@each_class
@pytest.mark.parametrize("early_stopping", [False, True])
def test_html_of_a_fitted_one_shows_its_network_and_its_losses(cls, early_stopping):
    estimator = cls(**SMALL, early_stopping=early_stopping)
    assert "<polyline" not in estimator._repr_html_()
    estimator.fit(X)
    for html in (estimator._repr_html_(), estimator._repr_mimebundle_()["text/html"]):
        layers = re.findall(r"<code>(.*?)</code></td><td>([\d,]+)</td>", html)
        assert layers[0] == ("Linear(in_features=6, out_features=16, bias=True)", "112")
        counts = [int(count.replace(",", "")) for _, count in layers]
        modules = estimator.encoder_, estimator.decoder_
        values = [v for m in modules for v in (*m.parameters(), *m.buffers())]
        assert sum(counts) == sum(v.numel() for v in values)
        curves = re.findall(r"<polyline points='(.*?)'", html)
        assert [len(points.split()) for points in curves] == [5] * (1 + early_stopping)
        assert f"loss {estimator.best_loss_:.4g}" in html


@each_class
def test_verbose_zero_prints_nothing(cls, capfd):
    estimator = cls(**SMALL).fit(X)
    estimator.partial_fit(X).score_samples(X)
    assert tuple(capfd.readouterr()) == ("", "")


@each_class
@pytest.mark.parametrize("early_stopping", [False, True])
def test_verbose_shows_a_bar_with_the_losses(cls, early_stopping, capfd):
    pytest.importorskip("tqdm")
    estimator = cls(**SMALL, verbose=1, early_stopping=early_stopping).fit(X)
    shown = capfd.readouterr().err
    assert cls.__name__ in shown
    assert "5/5" in shown
    assert f"loss={estimator.loss_curve_[-1]:.4g}" in shown
    if early_stopping:
        assert f"validation_loss={estimator.validation_loss_curve_[-1]:.4g}" in shown


@each_class
@pytest.mark.parametrize("early_stopping", [False, True])
def test_verbose_without_tqdm_prints_a_line_an_epoch(cls, early_stopping, capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    estimator = cls(**SMALL, verbose=True, early_stopping=early_stopping).fit(X)
    out, err = capfd.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert len(lines) == 5
    for epoch, line in enumerate(lines):
        assert line.startswith(f"{cls.__name__}: epoch {epoch + 1}/5, loss ")
        assert f"loss {estimator.loss_curve_[epoch]:.4g}" in line
        assert line.endswith(" s left")
    assert ("validation_loss" in out) == early_stopping


def test_failed_fit_closes_the_bar(capfd, monkeypatch):
    tqdm = pytest.importorskip("tqdm.auto").tqdm
    from skae.exceptions import DivergenceError

    estimator = AutoencoderTransformer(
        **SMALL | {"max_epochs": 50}, optimizer="sgd", learning_rate=1e9, verbose=1
    )
    n_bars = len(tqdm._instances)
    with pytest.raises(DivergenceError):
        estimator.fit(X)
    assert len(tqdm._instances) == n_bars


# Searches.


def _search(verbose, of_search=0):
    pipeline = make_pipeline(AutoencoderTransformer(**SMALL, verbose=verbose), StandardScaler())
    grid = {"autoencodertransformer__n_components": [1, 2]}
    search = AutoencoderSearchCV(pipeline, grid, cv=3, refit=False, verbose=of_search)
    return search.set_params(scoring=lambda estimator, X, y=None: 0.0).fit(X)


@pytest.mark.parametrize(("verbose", "of_search"), [(1, 0), (0, 1)])
def test_a_search_shows_one_bar_for_all_its_fits(verbose, of_search, capfd):
    pytest.importorskip("tqdm")
    _search(verbose, of_search)
    shown = capfd.readouterr().err
    assert "30/30" in shown
    assert shown.count("AutoencoderSearchCV, 6 fits") >= 2
    assert "AutoencoderTransformer" not in shown
    assert shown.count("\n") == 1


def test_a_search_without_tqdm_prints_a_line_a_fit(capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    _search(verbose=1)
    lines = capfd.readouterr().out.splitlines()
    assert [line.rsplit(",", 1)[0] for line in lines] == [
        f"AutoencoderSearchCV: {i}/6 fits trained" for i in range(1, 7)
    ]


def test_a_silent_search_prints_nothing(capfd):
    _search(verbose=0)
    assert tuple(capfd.readouterr()) == ("", "")
