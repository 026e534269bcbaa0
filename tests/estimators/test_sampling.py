"""Rows drawn from the latents: like the training rows in distribution, units, columns, dtypes."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.mixture import BayesianGaussianMixture
from sklearn.neighbors import KernelDensity

from skae import AutoencoderTransformer, DenoisingAutoencoder, VariationalAutoencoder
from skae.io import load, save

RNG = np.random.default_rng(0)

X = RNG.normal(size=(300, 3)) @ RNG.normal(size=(3, 6)) + 5.0

SMALL = {
    "n_components": 3,
    "hidden_layer_sizes": (16,),
    "max_epochs": 60,
    "random_state": 0,
    "device": "cpu",
}

CLASSES = [AutoencoderTransformer, DenoisingAutoencoder, VariationalAutoencoder]

each_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)

DENSITIES = {
    "auto": "auto",
    "gaussian": "gaussian",
    "gmm": "gmm",
    "kernels": KernelDensity(bandwidth=0.2),
    "bayesian mixture": BayesianGaussianMixture(max_iter=500),
}

each_density = pytest.mark.parametrize("density", DENSITIES)


@each_density
def test_drawn_rows_are_distributed_as_the_training_rows(density):
    estimator = AutoencoderTransformer(**SMALL, latent_density=DENSITIES[density]).fit(X)
    drawn = estimator.sample(5000, random_state=0)
    np.testing.assert_allclose(drawn.mean(axis=0), X.mean(axis=0), atol=0.25)
    np.testing.assert_allclose(np.corrcoef(drawn.T), np.corrcoef(X.T), atol=0.1)
    assert (drawn.min(axis=0) >= X.min(axis=0)).all()
    assert (drawn.max(axis=0) <= X.max(axis=0)).all()


@each_density
@each_class
def test_draws_follow_from_random_state_also_after_a_pickle(cls, density):
    estimator = cls(**SMALL | {"max_epochs": 2}, latent_density=DENSITIES[density]).fit(X)
    expected = estimator.sample(7, random_state=3)
    np.testing.assert_array_equal(estimator.sample(7, random_state=3), expected)
    restored = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(restored.sample(7, random_state=3), expected)
    refitted = clone(estimator).fit(X)
    np.testing.assert_array_equal(refitted.sample(7, random_state=3), expected)
    assert not np.array_equal(estimator.sample(7, random_state=4), expected)
    assert not np.array_equal(estimator.sample(7), estimator.sample(7))


@pytest.mark.parametrize("density", ["auto", "gaussian", "gmm"])
def test_draws_follow_from_random_state_also_after_a_safe_file(density, tmp_path):
    estimator = AutoencoderTransformer(**SMALL | {"max_epochs": 2}, latent_density=density).fit(X)
    save(estimator, tmp_path / "model.safetensors")
    restored = load(tmp_path / "model.safetensors", device="cpu")
    np.testing.assert_array_equal(restored.sample(7, 3), estimator.sample(7, 3))


def test_density_of_ones_own_has_no_place_in_a_safe_file(tmp_path):
    estimator = AutoencoderTransformer(**SMALL, latent_density=KernelDensity()).fit(X)
    with pytest.raises(ValueError, match=r"latent_density=.*safe file"):
        save(estimator, tmp_path / "model.safetensors")


class Counting(KernelDensity):
    n_fits = 0

    def fit(self, X, y=None, sample_weight=None):
        Counting.n_fits += 1
        return super().fit(X, y, sample_weight)


def test_density_is_fitted_when_rows_are_drawn_and_not_before():
    estimator = AutoencoderTransformer(**SMALL | {"max_epochs": 2}, latent_density=Counting())
    estimator.fit(X).partial_fit(X).partial_fit(X)
    assert Counting.n_fits == 0
    # A parameter that changes after the fit does not change what was fitted.
    estimator.latent_density.set_params(bandwidth=1000.0)
    with ThreadPoolExecutor() as pool:
        drawn = list(pool.map(lambda _: estimator.sample(5, random_state=0), range(4)))
    n_fits = Counting.n_fits
    assert 1 <= n_fits <= 4
    restored = pickle.loads(pickle.dumps(estimator))
    for rows in drawn:
        np.testing.assert_array_equal(rows, restored.sample(5, random_state=0))
    assert Counting.n_fits == n_fits


@pytest.mark.parametrize("n_rows", [1, 2, 3, 15])
def test_few_rows_have_a_mixture(n_rows):
    estimator = AutoencoderTransformer(**SMALL | {"max_epochs": 2}, latent_density="gmm")
    drawn = estimator.fit(X[:n_rows]).sample(50, random_state=0)
    assert (drawn >= X[:n_rows].min(axis=0)).all()
    assert (drawn <= X[:n_rows].max(axis=0)).all()


def test_images_come_back_as_images_in_their_dtype():
    images = load_digits().images.astype(np.uint8)
    estimator = AutoencoderTransformer(**SMALL | {"max_epochs": 5}, latent_density="gmm")
    drawn = estimator.fit(images).sample(40, random_state=0)
    assert drawn.shape == (40, 8, 8)
    assert drawn.dtype == np.uint8
    assert drawn.max() <= 16
    assert drawn[:, :, 3:5].mean() > 3 * drawn[:, :, 0].mean()
    rows = clone(estimator).fit(images.reshape(-1, 64)).sample(40, random_state=0)
    np.testing.assert_array_equal(rows, drawn.reshape(40, 64))


@pytest.mark.parametrize("name", ["pandas", "polars"])
def test_tables_come_back_with_their_columns_and_dtypes(name):
    library = pytest.importorskip(name)
    iris, species = load_iris(return_X_y=True)
    columns = {
        "length": iris[:, 0],
        "width": iris[:, 1].astype(np.float32),
        "species": species,
        "large": iris[:, 2] > 4,
    }
    frame = library.DataFrame(columns)
    estimator = AutoencoderTransformer(**SMALL | {"n_components": 2})
    drawn = estimator.set_output(transform=name).fit(frame).sample(200, random_state=0)
    assert isinstance(drawn, library.DataFrame)
    assert list(drawn.columns) == list(columns)
    assert list(drawn.dtypes) == list(frame.dtypes)
    assert set(drawn["species"]) == {0, 1, 2}
    assert {float(v) for v in drawn["large"]} == {0.0, 1.0}
    assert iris[:, 0].min() <= drawn["length"].min() < drawn["length"].max() <= iris[:, 0].max()
    estimator.set_output(transform="default")
    assert isinstance(estimator.sample(2), np.ndarray)


def test_nullable_columns_stay_nullable():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X[:, :3].round(), columns=list("abc")).astype("Int64")
    frame.loc[::5, "b"] = pandas.NA
    estimator = AutoencoderTransformer(**SMALL | {"n_components": 2}).set_output(transform="pandas")
    drawn = estimator.fit(frame).sample(5)
    assert list(drawn.dtypes) == list(frame.dtypes)


def test_density_of_other_rows_gives_rows_like_them():
    iris, species = load_iris(return_X_y=True)
    estimator = AutoencoderTransformer(**SMALL).fit(iris)
    for label in range(3):
        own = iris[species == label]
        drawn = estimator.fit_density(own).sample(500, random_state=0)
        np.testing.assert_allclose(drawn.mean(axis=0), own.mean(axis=0), atol=0.15)
        assert (drawn.max(axis=0) <= own.max(axis=0)).all()


def table_of_many_kinds(n=600):
    """A latent quantity; counts, bounded and skewed columns, a flag and text that hang on it."""
    rng = np.random.default_rng(5)
    level = rng.normal(size=n)
    counts = rng.poisson(np.exp(level - 0.5))
    skewed = np.where(level + rng.normal(size=n) < 0.5, 0.0, np.exp(2.0 * level))
    flag = level + rng.normal(size=n) > 1.5
    text = np.where(level + 0.5 * rng.normal(size=n) > 0.5, "high", "low")
    return {"counts": counts, "skewed": skewed, "flag": flag, "text": text, "level": level}


def test_columns_of_drawn_rows_hold_what_those_of_the_training_rows_do(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(table_of_many_kinds())
    estimator = AutoencoderTransformer(**SMALL).set_output(transform="pandas").fit(frame)
    drawn = estimator.sample(3000, random_state=0)
    for count in range(4):
        share = (drawn["counts"] == count).mean()
        assert share == pytest.approx((frame["counts"] == count).mean(), abs=0.03)
    assert (drawn["skewed"] == 0.0).mean() == pytest.approx(
        (frame["skewed"] == 0.0).mean(), abs=0.03
    )
    levels = [0.6, 0.8, 0.9]
    expected = frame["skewed"].quantile(levels)
    np.testing.assert_allclose(drawn["skewed"].quantile(levels), expected, rtol=0.2, atol=0.2)
    assert drawn["flag"].mean() == pytest.approx(frame["flag"].mean(), abs=0.02)
    assert (drawn["text"] == "high").mean() == pytest.approx(
        (frame["text"] == "high").mean(), abs=0.04
    )
    # What hangs together does so in drawn rows.
    for rows in (frame, drawn):
        assert rows["level"][rows["text"] == "high"].mean() > rows["level"].mean() + 0.3
        assert rows["counts"].corr(rows["level"], method="spearman") > 0.3
    save(estimator, tmp_path / "model.safetensors")
    for again in (load(tmp_path / "model.safetensors"), pickle.loads(pickle.dumps(estimator))):
        pandas.testing.assert_frame_equal(again.sample(50, random_state=1), estimator.sample(50, 1))


def test_rows_drawn_for_a_class_have_its_columns():
    X = np.column_stack([table_of_many_kinds()[name] for name in ("counts", "skewed", "level")])
    estimator = AutoencoderTransformer(**SMALL | {"n_components": 2}).fit(X)
    for rows in (X[X[:, 2] > 0], X[X[:, 2] <= 0]):
        drawn = estimator.fit_density(rows).sample(3000, random_state=0)
        assert (drawn[:, 0] == 0).mean() == pytest.approx((rows[:, 0] == 0).mean(), abs=0.03)
        assert (drawn[:, 1] == 0).mean() == pytest.approx((rows[:, 1] == 0).mean(), abs=0.03)
        median = np.median(rows, axis=0)
        np.testing.assert_allclose(np.median(drawn, axis=0), median, rtol=0.15, atol=0.05)


def test_columns_follow_the_weights_of_rows():
    estimator = AutoencoderTransformer(**SMALL | {"max_epochs": 5}).fit(X)
    weights = np.where(X[:, 0] > np.median(X[:, 0]), 9.0, 1.0)
    drawn = estimator.fit_density(X, sample_weight=weights).sample(3000, random_state=0)
    assert (drawn[:, 0] > np.median(X[:, 0])).mean() == pytest.approx(0.9, abs=0.06)


def test_drawn_rows_do_not_all_lie_where_reconstructions_do():
    rng = np.random.default_rng(6)
    rows = rng.normal(size=(500, 1)) + 0.5 * rng.normal(size=(500, 4))
    drawn = AutoencoderTransformer(**SMALL | {"n_components": 1}).fit(rows).sample(2000, 0)
    np.testing.assert_allclose(np.corrcoef(drawn.T), np.corrcoef(rows.T), atol=0.12)


def test_images_are_drawn_as_they_are_decoded():
    images = load_digits().images
    estimator = AutoencoderTransformer(**SMALL | {"max_epochs": 2}).fit(images)
    assert estimator._ranges.margins is None


def test_interpolation_goes_from_one_reconstruction_to_the_other():
    estimator = AutoencoderTransformer(**SMALL).fit(X)
    ways = estimator.interpolate(X[:2], X[5:7], steps=5).reshape(2, 5, 6)
    within = np.clip(estimator.reconstruct(X), X.min(axis=0), X.max(axis=0))
    np.testing.assert_allclose(ways[:, 0], within[:2], rtol=1e-5)
    np.testing.assert_allclose(ways[:, -1], within[5:7], rtol=1e-5)
    middle = (estimator.transform(X[:2]) + estimator.transform(X[5:7])) / 2
    expected = np.clip(estimator.inverse_transform(middle), X.min(axis=0), X.max(axis=0))
    np.testing.assert_allclose(ways[:, 2], expected, rtol=1e-5)


@pytest.mark.parametrize("cls", CLASSES[:2])
def test_truncated_copy_samples_from_its_latents(cls):
    estimator = cls(**SMALL, ordered=True, latent_density="gmm").fit(X)
    smaller = estimator.truncate(1)
    quantiles = np.quantile(smaller.sample(2000, random_state=0), [0.1, 0.5, 0.9], axis=0)
    np.testing.assert_allclose(quantiles, np.quantile(X, [0.1, 0.5, 0.9], axis=0), atol=0.3)
    smaller._ranges = smaller._ranges._replace(margins=None, residuals=None)
    drawn = smaller.sample(500, random_state=0)
    assert drawn.shape == (500, 6)
    # As they are decoded, rows lie on the curve that one latent stands for.
    latents = smaller.transform(X)
    ends = latents.min() - np.ptp(latents), latents.max() + np.ptp(latents)
    curve = smaller.inverse_transform(np.linspace(*ends, 2000)[:, None])
    curve = np.clip(curve, X.min(axis=0), X.max(axis=0))
    distances = np.linalg.norm(drawn[:, None] - curve, axis=2).min(axis=1)
    assert distances.max() < 0.05 * X.std()
    latents_of_all = estimator.sample(500, random_state=0)
    np.testing.assert_allclose(latents_of_all.mean(axis=0), X.mean(axis=0), atol=0.3)


def test_without_a_bottleneck_there_is_nothing_to_sample():
    images = load_digits().images[:20]
    estimator = DenoisingAutoencoder(
        network="unet", hidden_layer_sizes=(4,), max_epochs=1, device="cpu"
    ).fit(images)
    with pytest.raises(ValueError, match="network with a bottleneck"):
        estimator.sample()


@pytest.mark.parametrize("n_samples", [0, -1, 1.5, "3", True])
def test_bad_number_of_samples_is_refused(n_samples):
    estimator = AutoencoderTransformer(**SMALL | {"max_epochs": 1}).fit(X)
    with pytest.raises(ValueError, match="n_samples="):
        estimator.sample(n_samples)


def test_bad_ends_and_steps_are_refused():
    estimator = AutoencoderTransformer(**SMALL | {"max_epochs": 1}).fit(X)
    with pytest.raises(ValueError, match="a has 2 rows and b 3"):
        estimator.interpolate(X[:2], X[:3])
    with pytest.raises(ValueError, match="steps=1"):
        estimator.interpolate(X[:2], X[:2], steps=1)


@pytest.mark.parametrize("density", ["normal", 3, object()])
def test_bad_density_is_refused(density):
    with pytest.raises(ValueError, match="latent_density"):
        AutoencoderTransformer(**SMALL, latent_density=density).fit(X)
