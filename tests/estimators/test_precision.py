"""Every estimator fits in every precision, whatever else it is given."""

import itertools

import numpy as np
import pytest

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)

RNG = np.random.default_rng(0)

ROWS = RNG.normal(size=(320, 3)) @ RNG.normal(size=(3, 16)) + 0.1 * RNG.normal(size=(320, 16))

IMAGES = np.abs(ROWS).reshape(-1, 4, 4)

PHOTOS = np.kron(RNG.normal(size=(2, 6, 6)), np.ones((6, 6)))

MISSING = np.where(RNG.random(ROWS.shape) < 0.1, np.nan, ROWS)

WEIGHTS = RNG.integers(0, 3, len(ROWS)).astype(float)

# What float32, the reference, is compared with; "auto" is one of them on every device.
PRECISIONS = ["bfloat16", "float64"]

CLASSES = [
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
    AutoencoderAnomalyDetector,
]

# More rows than a batch, since one small batch is trained in float64 in any precision.
SMALL = {
    "n_components": 3,
    "hidden_layer_sizes": (16,),
    "batch_size": 64,
    "max_epochs": 5,
    "random_state": 0,
    "device": "cpu",
}


def fitted(cls, precision, X, sample_weight=None, **options):
    return cls(precision=precision, **SMALL | options).fit(X, sample_weight=sample_weight)


_CURVES = {}


def _reference_curve(cls, X, sample_weight=None, **options):
    """The losses in float32, which both other precisions are compared with."""
    key = cls, id(X), id(sample_weight), str(options)
    if key not in _CURVES:
        _CURVES[key] = fitted(cls, "float32", X, sample_weight, **options).loss_curve_
    return _CURVES[key]


def _of_images(cls):
    """Detectors refuse convolutions."""
    return "mlp" if cls is AutoencoderAnomalyDetector else "conv"


def assert_as_good(cls, precision, X, tolerance=0.15, **options):
    """It fits, gives finite results, and comes as far as it does in float32."""
    estimator = fitted(cls, precision, X, **options)
    results = [estimator.loss_curve_, estimator.score_samples(X)]
    if hasattr(estimator, "transform"):
        results += [estimator.transform(X), estimator.reconstruct(X)]
    assert all(np.isfinite(result).all() for result in results)
    expected = _reference_curve(cls, X, **options)
    # Bounds may be negative: the distance counts in units of what training gains.
    gained = abs(expected[0] - expected[-1]) + abs(expected[-1])
    assert abs(estimator.loss_curve_[-1] - expected[-1]) < tolerance * gained
    return estimator


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("cls", CLASSES)
class TestEveryClass:
    @pytest.mark.parametrize(
        ("X", "sample_weight", "dropout"),
        [(ROWS, None, 0.0), (ROWS, WEIGHTS, 0.2), (MISSING, None, 0.2),
         (MISSING, WEIGHTS, 0.0)],
        ids=["plain", "weighted-dropout", "missing-dropout", "missing-weighted"],
    )  # fmt: skip
    def test_on_rows(self, cls, precision, X, sample_weight, dropout):
        assert_as_good(cls, precision, X, sample_weight=sample_weight, dropout=dropout)

    def test_on_images(self, cls, precision):
        options = {"network": _of_images(cls), "hidden_layer_sizes": (8,), "dropout": 0.2}
        assert_as_good(cls, precision, IMAGES, **options)

    @pytest.mark.parametrize("loss", ["absolute_error", "huber", "log_loss"])
    def test_in_every_loss(self, cls, precision, loss):
        assert_as_good(cls, precision, MISSING, loss=loss, scaling="minmax")

    @pytest.mark.parametrize("normalization", ["batch", "layer"])
    def test_in_every_normalization(self, cls, precision, normalization):
        assert_as_good(cls, precision, ROWS, normalization=normalization)

    @pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
    def test_by_every_optimizer(self, cls, precision, optimizer):
        rate = 0.02 if optimizer == "sgd" else 0.003
        options = {"optimizer": optimizer, "learning_rate": rate, "weight_decay": 1e-3}
        assert_as_good(cls, precision, ROWS, latent_l1=1e-3, **options)

    def test_in_passes(self, cls, precision):
        estimator = cls(precision=precision, **SMALL)
        for part in np.array_split(MISSING, 3):
            estimator.partial_fit(part)
        assert np.isfinite(estimator.score_samples(MISSING)).all()


@pytest.mark.parametrize("precision", PRECISIONS)
class TestNoise:
    @pytest.mark.parametrize(
        "noise",
        ["gaussian", "masking", "salt_and_pepper", "swap", ("gaussian", "masking"),
         lambda clean, generator: 0.9 * clean],
        ids=["gaussian", "masking", "salt_and_pepper", "swap", "tuple", "callable"],
    )  # fmt: skip
    @pytest.mark.parametrize("X", [ROWS, MISSING], ids=["whole", "missing"])
    def test_of_rows(self, precision, noise, X):
        options = {"noise": noise, "noise_level": 0.2}
        assert_as_good(DenoisingAutoencoder, precision, X, **options)

    @pytest.mark.parametrize("network", ["mlp", "conv"])
    @pytest.mark.parametrize("noise", ["affine", "block_masking", ("affine", "swap")])
    def test_of_images(self, precision, network, noise):
        options = {"noise": noise, "noise_level": 0.2, "network": network}
        options |= {"hidden_layer_sizes": (8,)}
        assert_as_good(DenoisingAutoencoder, precision, IMAGES, **options)

    @pytest.mark.parametrize("noise", ["block_masking", ("gaussian", "masking")])
    def test_of_patches_in_a_unet(self, precision, noise):
        options = SMALL | {"network": "unet", "patch_size": 8, "hidden_layer_sizes": (4, 4)}
        options |= {"noise": noise, "noise_level": 0.2, "max_epochs": 3, "n_components": "auto"}
        losses = {}
        for name in {precision, "float32"}:
            estimator = DenoisingAutoencoder(precision=name, **options).fit(PHOTOS)
            losses[name] = estimator.loss_curve_[-1]
            assert np.isfinite(estimator.denoise(PHOTOS)).all()
        assert losses[precision] == pytest.approx(losses["float32"], rel=0.15)


@pytest.mark.parametrize("cls", CLASSES)
def test_auto_is_one_of_them(cls):
    assert_as_good(cls, "auto", MISSING, sample_weight=WEIGHTS, dropout=0.2)
    assert_as_good(cls, "auto", IMAGES, network=_of_images(cls), hidden_layer_sizes=(8,))


def test_ordered_and_sparse_latents():
    for options, precision in itertools.product(
        [{"ordered": True}, {"n_nonzero_coefs": 2}], PRECISIONS
    ):
        assert_as_good(AutoencoderTransformer, precision, MISSING, **options)
