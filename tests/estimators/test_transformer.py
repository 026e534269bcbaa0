"""AutoencoderTransformer: what a user of PCA expects of it."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import r2_score
from sklearn.preprocessing import MinMaxScaler
from torch import nn

from skae import AutoencoderTransformer, DenoisingAutoencoder
from skae._networks.activations import ACTIVATIONS
from skae._training.losses import LOSSES
from skae._training.optimizers import OPTIMIZERS
from skae._training.plan import SCHEDULES

X = load_digits().data[:600]
QUICK = {"max_epochs": 3, "hidden_layer_sizes": (16,), "n_components": 4, "random_state": 0}


@pytest.fixture(scope="module")
def fitted():
    return AutoencoderTransformer(n_components=8, random_state=0).fit(X)


def test_default_explains_more_than_pca_of_the_same_size():
    digits = load_digits().data
    train, test = digits[::2], digits[1::2]
    ours = AutoencoderTransformer(n_components=8, random_state=0).fit(train)
    pca = PCA(8).fit(train)
    rebuilt = pca.inverse_transform(pca.transform(test))
    assert ours.score(test) > r2_score(test, rebuilt, multioutput="variance_weighted") + 0.02


def test_score_is_the_variance_weighted_r2_of_the_scaled_reconstruction(fitted):
    expected = r2_score(X, fitted.reconstruct(X), multioutput="variance_weighted")
    assert fitted.score(X) == pytest.approx(expected, abs=1e-5)


def test_reconstruct_is_the_inverse_of_the_transform_in_the_users_units(fitted):
    rebuilt = fitted.inverse_transform(fitted.transform(X))
    np.testing.assert_allclose(rebuilt, fitted.reconstruct(X), rtol=1e-5, atol=1e-5)
    assert abs(rebuilt.mean() - X.mean()) < 0.2


def test_score_samples_is_minus_the_mean_squared_scaled_error(fitted):
    scale = fitted._model.scaler.scale
    errors = ((X - fitted.reconstruct(X)) / scale) ** 2
    np.testing.assert_allclose(fitted.score_samples(X), -errors.mean(axis=1), rtol=1e-4)


def test_encoder_and_decoder_are_the_fitted_network_as_modules(fitted):
    scaled = np.empty(X.shape, dtype=np.float32)
    fitted._model.scaler.transform(X, scaled)
    with torch.no_grad():
        latents = fitted.encoder_(torch.from_numpy(scaled))
        outputs = fitted.decoder_(latents).numpy()
    np.testing.assert_allclose(latents.numpy(), fitted.transform(X), rtol=1e-4, atol=1e-4)
    rebuilt = fitted._model.scaler.inverse_transform(outputs).clip(0.0, 16.0)
    np.testing.assert_allclose(rebuilt, fitted.reconstruct(X), rtol=1e-4, atol=1e-3)


def test_pixels_are_rebuilt_within_their_range_and_better_for_it():
    options = {"n_components": 8, "max_epochs": 15, "random_state": 0}
    cut = AutoencoderTransformer(**options).fit(X)
    rebuilt = cut.reconstruct(X)
    assert rebuilt.min() == 0.0
    assert rebuilt.max() <= 16.0
    free = AutoencoderTransformer(**options, scaling="common").fit(X).reconstruct(X)
    assert free.min() < -1.0
    # What is cut off in training, too, is worth more than what is cut off afterwards.
    afterwards = np.mean((free.clip(0.0, 16.0) - X) ** 2)
    assert np.mean((rebuilt - X) ** 2) < afterwards < np.mean((free - X) ** 2)


def test_outputs_of_modules_that_remember_them_are_cut_off_too():
    def network(input_shape, n_components):
        decoder = nn.Sequential(nn.Linear(n_components, 64), nn.Sigmoid())
        return nn.Linear(64, n_components), decoder

    est = AutoencoderTransformer(network=network, n_components=8, max_epochs=3, random_state=0)
    assert est.fit(X).reconstruct(X).min() >= 0.0


def test_the_range_of_pixels_grows_with_partial_fit():
    est = AutoencoderTransformer(n_components=8, random_state=0).partial_fit(X)
    for _ in range(5):
        est.partial_fit(2.0 * X)
    assert 17.0 < est.reconstruct(2.0 * X).max() <= 32.0


def test_columns_of_tables_are_rebuilt_without_bounds():
    table = np.random.default_rng(0).normal(size=(200, 6))
    est = AutoencoderTransformer(n_components=2, max_epochs=2, random_state=0).fit(table)
    assert np.abs(est.inverse_transform(np.full((1, 2), 100.0))).max() > 2 * np.abs(table).max()


@pytest.mark.slow
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
def test_every_activation_and_normalization_learns(activation, normalization):
    est = AutoencoderTransformer(
        activation=activation, normalization=normalization, n_components=8, random_state=0,
        hidden_layer_sizes=(32,), max_epochs=30, learning_rate=1e-2, init="random",
    ).fit(X)  # fmt: skip
    assert est.score(X) > 0.45
    assert est.loss_curve_[-1] < 0.7 * est.loss_curve_[0]


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns(loss):
    est = AutoencoderTransformer(loss=loss, n_components=8, random_state=0, max_epochs=30).fit(X)
    assert est.score(X) > 0.5


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_optimizer_and_schedule_learns(optimizer, schedule):
    rate = 0.5 if optimizer == "sgd" else 3e-3
    est = AutoencoderTransformer(
        optimizer=optimizer, lr_schedule=schedule, learning_rate=rate, n_components=8,
        max_epochs=20, random_state=0, weight_decay=1e-5,
    ).fit(X)  # fmt: skip
    assert est.score(X) > 0.4


def test_log_loss_reconstructs_inside_the_range():
    est = AutoencoderTransformer(loss="log_loss", **QUICK).fit(X)
    rebuilt = est.reconstruct(X)
    assert rebuilt.min() >= -1e-4
    assert rebuilt.max() <= 16 + 1e-4


def test_sparsity_keeps_k_latents():
    est = AutoencoderTransformer(n_nonzero_coefs=2, **(QUICK | {"n_components": 6})).fit(X)
    assert ((est.transform(X) != 0).sum(axis=1) == 2).all()


def test_latent_l1_makes_latents_smaller():
    sizes = [
        np.abs(
            AutoencoderTransformer(latent_l1=l1, **(QUICK | {"max_epochs": 20})).fit_transform(X)
        ).mean()
        for l1 in (0.0, 1.0)
    ]
    assert sizes[1] < 0.5 * sizes[0]


def test_weight_decay_makes_weights_smaller():
    norms = []
    for decay in (0.0, 3.0):
        settings = QUICK | {"max_epochs": 30, "optimizer": "adamw", "weight_decay": decay}
        settings["early_stopping"] = False
        est = AutoencoderTransformer(**settings).fit(X)
        modules = [*est.encoder_.modules(), *est.decoder_.modules()]
        linear = [module for module in modules if isinstance(module, torch.nn.Linear)]
        norms.append(sum(float((m.weight.detach() ** 2).sum()) for m in linear))
    assert norms[1] < 0.7 * norms[0]


def test_dropout_changes_training_but_not_prediction():
    est = AutoencoderTransformer(dropout=0.5, **QUICK).fit(X)
    np.testing.assert_array_equal(est.transform(X), est.transform(X))
    plain = AutoencoderTransformer(**QUICK).fit(X)
    assert est.loss_curve_[-1] > plain.loss_curve_[-1]


def test_sparse_rows_give_the_bits_of_dense_rows():
    dense = AutoencoderTransformer(**QUICK).fit(X)
    rows = AutoencoderTransformer(**QUICK).fit(sparse.csr_array(X))
    np.testing.assert_array_equal(rows.transform(sparse.csr_array(X)), dense.transform(X))


def test_scaling_by_a_transformer_returns_the_users_units():
    est = AutoencoderTransformer(scaling=MinMaxScaler(), **(QUICK | {"max_epochs": 30})).fit(X)
    assert est.score(X) > 0.2
    assert abs(est.reconstruct(X).mean() - X.mean()) < 1.0


def test_units_of_the_features_do_not_matter():
    rows = X[:, X.std(axis=0) > 0]
    factors = 10.0 ** np.linspace(-8, 8, rows.shape[1])
    plain = AutoencoderTransformer(scaling="standard", **QUICK).fit(rows)
    scaled = AutoencoderTransformer(scaling="standard", **QUICK).fit(rows * factors)
    np.testing.assert_allclose(
        scaled.transform(rows * factors), plain.transform(rows), rtol=1e-3, atol=1e-3
    )
    rebuilt = scaled.reconstruct(rows * factors)
    np.testing.assert_allclose(rebuilt / factors, plain.reconstruct(rows), rtol=1e-2, atol=1e-2)


def test_missing_cells_are_filled_and_left_out_of_the_score():
    est = DenoisingAutoencoder(n_components=8, random_state=0).fit(X)
    holes = X.copy()
    holes[:, 20] = np.nan
    rebuilt = est.reconstruct(holes)
    assert np.isfinite(rebuilt).all()
    error = np.abs(rebuilt[:, 20] - X[:, 20]).mean()
    assert error < 0.8 * np.abs(X[:, 20].mean() - X[:, 20]).mean()
    scale = est._model.scaler.scale
    errors = (((holes - rebuilt) / scale) ** 2)[:, np.arange(64) != 20]
    np.testing.assert_allclose(est.score_samples(holes), -errors.mean(axis=1), rtol=1e-4)


def test_float64_precision_gives_float64():
    est = AutoencoderTransformer(precision="float64", **QUICK).fit(X)
    single = AutoencoderTransformer(**QUICK).fit(X)
    assert est.transform(X).dtype == np.float64
    assert single.transform(X).dtype == np.float32
    np.testing.assert_allclose(est.transform(X), single.transform(X), rtol=1e-2, atol=1e-2)


def test_bfloat16_products_train_almost_as_well():
    settings = {"n_components": 8, "max_epochs": 20, "random_state": 0}
    half = AutoencoderTransformer(precision="bfloat16", **settings).fit(X)
    full = AutoencoderTransformer(**settings).fit(X)
    assert half.score(X) > full.score(X) - 0.05
    assert half.transform(X).dtype == np.float32


def convolutional(input_shape, n_components):
    channels, height, width = input_shape
    encoder = torch.nn.Sequential(
        torch.nn.Conv2d(channels, 8, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Dropout(0.1),
        torch.nn.Linear(8 * 4 * 4, n_components),
    )
    decoder = torch.nn.Sequential(
        torch.nn.Linear(n_components, 64), torch.nn.ReLU(), torch.nn.Linear(64, height * width)
    )
    return encoder, decoder


def test_modules_of_the_user_learn_from_rows_that_hold_images():
    settings = {"network": convolutional, "image_shape": (8, 8), "n_components": 8}
    est = AutoencoderTransformer(max_epochs=40, random_state=0, **settings).fit(X)
    assert est.score(X) > 0.5
    again = AutoencoderTransformer(max_epochs=40, random_state=0, **settings).fit(X)
    np.testing.assert_array_equal(est.transform(X), again.transform(X))


def test_early_stopping_keeps_the_best_epoch_and_its_curve():
    est = AutoencoderTransformer(early_stopping=True, max_epochs=10, random_state=0).fit(X)
    assert est.best_loss_ == min(est.validation_loss_curve_)
    assert len(est.validation_loss_curve_) == est.n_iter_ == len(est.loss_curve_)


def test_partial_fit_goes_on_and_fit_starts_anew():
    est = AutoencoderTransformer(**QUICK)
    for _ in range(30):
        est.partial_fit(X)
    assert est.n_iter_ == 30
    assert est.loss_curve_[-1] < 0.7 * est.loss_curve_[0]
    assert est.fit(X).n_iter_ == 3


def test_warm_start_goes_on_from_the_last_weights():
    est = AutoencoderTransformer(warm_start=True, **QUICK).fit(X)
    first = est.loss_curve_[-1]
    assert est.fit(X).loss_curve_[0] < first * 1.05
    expected = est.transform(X)
    message = r"since the last fit: n_components was \(4,\), is \(5,\)\. Pass warm_start=False"
    with pytest.raises(ValueError, match=message):
        est.set_params(n_components=5).fit(X)
    np.testing.assert_array_equal(est.transform(X), expected)
