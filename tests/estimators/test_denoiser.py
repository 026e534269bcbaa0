"""DenoisingAutoencoder: undoes noise, fills cells, keeps what was observed."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from skae import AutoencoderTransformer, DenoisingAutoencoder
from skae._training.noise import NOISES

X = load_digits().data
TRAIN, TEST = X[::2], X[1::2]


@pytest.mark.slow
@pytest.mark.parametrize("noise", NOISES)
def test_every_noise_is_learned_and_undone(noise):
    level = {"gaussian": 0.7}.get(noise, 0.3)
    est = DenoisingAutoencoder(noise=noise, noise_level=level, n_components=24, random_state=0)
    est.fit(TRAIN)
    rng = np.random.default_rng(0)
    noisy = {
        "gaussian": lambda: TEST + rng.normal(size=TEST.shape) * level * est._model.scaler.scale[0],
        "masking": lambda: np.where(rng.random(TEST.shape) < level, TRAIN.mean(axis=0), TEST),
        "salt_and_pepper": lambda: np.where(
            rng.random(TEST.shape) < level, 16.0 * rng.integers(0, 2, TEST.shape), TEST
        ),
        "swap": lambda: np.where(rng.random(TEST.shape) < level, rng.permuted(TEST, axis=0), TEST),
    }[noise]()
    before, after = ((noisy - TEST) ** 2).mean(), ((est.denoise(noisy) - TEST) ** 2).mean()
    plain = AutoencoderTransformer(n_components=24, random_state=0).fit(TRAIN)
    assert after < 0.7 * before
    assert after < ((plain.reconstruct(noisy) - TEST) ** 2).mean()


def test_noise_level_zero_is_the_plain_autoencoder():
    settings = {"max_epochs": 3, "random_state": 0, "early_stopping": False}
    none = DenoisingAutoencoder(noise_level=0.0, **settings).fit(TRAIN)
    plain = AutoencoderTransformer(**settings).fit(TRAIN)
    np.testing.assert_array_equal(none.transform(TRAIN), plain.transform(TRAIN))


def test_callable_noise_is_drawn_from_the_local_generator():
    import torch

    def blank_columns(rows, generator):
        keep = torch.rand(rows.shape[-1], generator=generator) > 0.2
        return rows * keep

    settings = {"noise": blank_columns, "max_epochs": 3, "random_state": 0}
    one = DenoisingAutoencoder(**settings).fit(TRAIN)
    two = DenoisingAutoencoder(**settings).fit(TRAIN)
    np.testing.assert_array_equal(one.transform(TEST), two.transform(TEST))


def test_callable_noise_draws_anew_in_every_pass_of_partial_fit():
    drawn = []

    def spy(rows, generator):
        drawn.append(torch.rand(3, generator=generator).tolist())
        return rows

    estimator = DenoisingAutoencoder(noise=spy, random_state=0)
    for _ in range(3):
        estimator.partial_fit(TRAIN)
    assert len({tuple(draw) for draw in drawn}) == len(drawn) > 3
    one_by_one, drawn[:] = list(drawn), []
    DenoisingAutoencoder(noise=spy, random_state=0, max_epochs=3).fit(TRAIN)
    assert drawn == one_by_one


def test_impute_fills_missing_cells_and_keeps_the_others_to_the_bit():
    rng = np.random.default_rng(0)
    holes = np.where(rng.random(TEST.shape) < 0.2, np.nan, TEST)
    est = DenoisingAutoencoder(n_components=24, random_state=0).fit(TRAIN)
    filled = est.impute(holes)
    missing = np.isnan(holes)
    np.testing.assert_array_equal(filled[~missing], TEST[~missing])
    error = (filled - TEST)[missing].std()
    assert error < 0.7 * (np.broadcast_to(TRAIN.mean(axis=0), TEST.shape) - TEST)[missing].std()
    np.testing.assert_array_equal(est.impute(TEST), TEST)


def test_training_rows_may_miss_cells():
    rng = np.random.default_rng(0)
    holes = np.where(rng.random(TRAIN.shape) < 0.2, np.nan, TRAIN)
    est = DenoisingAutoencoder(n_components=24, random_state=0).fit(holes)
    missing = np.isnan(holes)
    error = (est.impute(holes) - TRAIN)[missing].std()
    assert error < 0.7 * (np.broadcast_to(TRAIN.mean(axis=0), TRAIN.shape) - TRAIN)[missing].std()


@pytest.mark.slow
def test_inpaint_replaces_the_cells_under_the_mask():
    est = DenoisingAutoencoder(n_components=24, random_state=0).fit(TRAIN)
    mask = np.zeros(TEST.shape, dtype=bool)
    mask[:, 27:29] = True
    repaired = est.inpaint(TEST, mask)
    np.testing.assert_array_equal(repaired[~mask], TEST[~mask])
    holes = np.where(mask, np.nan, TEST)
    np.testing.assert_array_equal(repaired, est.impute(holes))
    with pytest.raises(ValueError, match="mask must be boolean"):
        est.inpaint(TEST, mask[:, :3])


def test_inpaint_returns_a_frame_for_a_frame():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(TEST[:20], columns=[f"pixel{i}" for i in range(64)])
    est = DenoisingAutoencoder(max_epochs=3, random_state=0).fit(frame)
    mask = np.zeros(frame.shape, dtype=bool)
    mask[:, 30] = True
    repaired = est.inpaint(frame, mask)
    pandas.testing.assert_frame_equal(
        repaired.drop(columns="pixel30"), frame.drop(columns="pixel30")
    )
    assert list(repaired.columns) == list(frame.columns)
