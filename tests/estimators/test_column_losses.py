"""Losses by column, losses of the user's own, and counts."""

import pickle

import numpy as np
import pytest

from skae import AutoencoderImputer, AutoencoderTransformer
from skae.io import load, save

RNG = np.random.default_rng(0)
Z = RNG.normal(size=300)
RATES = np.exp(1.0 + 0.8 * Z)
X = np.column_stack([Z + 0.1 * RNG.normal(size=300), RNG.poisson(RATES), Z > 0]).astype(float)
SMALL = {"n_components": 1, "max_epochs": 60, "random_state": 0, "device": "cpu"}
BY_COLUMN = {1: "poisson", 2: "log_loss"}


def squared(output, target):
    return (output - target) ** 2


def test_counts_are_rebuilt_by_their_rates():
    rebuilt = AutoencoderTransformer(**SMALL, loss=BY_COLUMN).fit(X).reconstruct(X)
    assert rebuilt[:, 1].min() > 0
    assert np.corrcoef(np.log(rebuilt[:, 1]), np.log(RATES))[0, 1] > 0.9
    assert rebuilt[:, 1].mean() == pytest.approx(X[:, 1].mean(), rel=0.05)
    assert 0 <= rebuilt[:, 2].min() < 0.01
    assert 0.99 < rebuilt[:, 2].max() <= 1


def test_one_name_is_a_loss_for_each_column():
    one = AutoencoderTransformer(**SMALL, loss="absolute_error").fit(X)
    each = AutoencoderTransformer(**SMALL, loss=dict.fromkeys(range(3), "absolute_error")).fit(X)
    np.testing.assert_allclose(one.transform(X), each.transform(X), atol=1e-5)
    assert each.score_samples(X) == pytest.approx(one.score_samples(X), abs=1e-5)


def test_a_function_trains_as_the_named_loss_does():
    named = AutoencoderTransformer(**SMALL, init="random").fit(X)
    own = AutoencoderTransformer(**SMALL, loss=squared).fit(X)
    np.testing.assert_allclose(own.reconstruct(X), named.reconstruct(X), atol=1e-3)
    assert own.score_samples(X) == pytest.approx(named.score_samples(X), abs=1e-3)


@pytest.mark.parametrize("loss", [BY_COLUMN, squared], ids=["by column", "function"])
def test_training_goes_on_and_pickles_hold(loss):
    model = AutoencoderTransformer(**SMALL, loss=loss).fit(X)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.reconstruct(X), model.reconstruct(X))
    for one in (copy, model):
        one.partial_fit(X)
    np.testing.assert_array_equal(copy.reconstruct(X), model.reconstruct(X))


def test_files_hold_losses_by_column_and_refuse_functions(tmp_path):
    path = tmp_path / "model.skae"
    model = AutoencoderTransformer(**SMALL, loss=BY_COLUMN).fit(X)
    save(model, path)
    loaded = load(path)
    assert loaded.loss == BY_COLUMN
    np.testing.assert_array_equal(loaded.score_samples(X), model.score_samples(X))
    model = AutoencoderTransformer(**SMALL, loss={1: squared}).fit(X)
    with pytest.raises(ValueError, match=r"loss=<function squared .* is code"):
        save(model, path)


def test_columns_go_by_name_beside_categories():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"word": np.where(Z > 0, "a", "b"), "z": Z, "count": X[:, 1]})
    model = AutoencoderTransformer(**SMALL, loss={"count": "poisson"}).fit(frame)
    rebuilt = model.inverse_transform(model.transform(frame))
    assert (rebuilt["count"] >= 0).all()
    assert (rebuilt["word"] == frame["word"]).mean() > 0.95
    with pytest.raises(ValueError, match="loss names 'word', which is a category"):
        AutoencoderTransformer(loss={"word": "poisson"}).fit(frame)


def test_imputers_of_counts_have_a_bottleneck():
    holes = np.where(RNG.random(X.shape) < 0.2, np.nan, X)
    imputer = AutoencoderImputer(loss=BY_COLUMN, max_epochs=60, random_state=0)
    filled = imputer.fit_transform(holes)
    assert filled[:, 1].min() >= 0
    with pytest.raises(ValueError, match="network='gaps' gives values, but loss="):
        AutoencoderImputer(loss=BY_COLUMN, network="gaps").fit(holes)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ({3: "poisson"}, "loss names 3, which is no column of X"),
        ({"count": "poisson"}, "loss names 'count', which is no column of X"),
        ({1: "deviance"}, "loss holds 'deviance' for column 1"),
        ({0: "poisson"}, "loss='poisson' needs values of at least 0; .* column 0"),
        ("poisson", "loss='poisson' needs values of at least 0; .* column 0"),
    ],
)
def test_bad_losses_are_refused(loss, message):
    with pytest.raises(ValueError, match=message):
        AutoencoderTransformer(**SMALL, loss=loss).fit(X)
