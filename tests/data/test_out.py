"""Results that are written where the caller wants them."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from skae import AutoencoderTransformer, DenoisingAutoencoder

SMALL = {"hidden_layer_sizes": (16,), "n_components": 4, "random_state": 0, "max_epochs": 6}


@pytest.fixture(scope="module")
def by_class():
    """Rows in five clusters, one after another."""
    rng = np.random.default_rng(0)
    centers, directions = 3 * rng.normal(size=(5, 10)), rng.normal(size=(5, 3, 10))
    parts = [
        center + rng.normal(size=(2001, 3)) @ basis + 0.1 * rng.normal(size=(2001, 10))
        for center, basis in zip(centers, directions, strict=True)
    ]
    return np.concatenate(parts).astype(np.float32)


def mapped(tmp_path, values, name="rows.npy"):
    np.save(tmp_path / name, values)
    return np.load(tmp_path / name, mmap_mode="r")


def writable(tmp_path, store, shape, dtype):
    if store == "memmap":
        return np.lib.format.open_memmap(
            tmp_path / f"{shape[1]}.npy", "w+", dtype=dtype, shape=shape
        )
    if store == "hdf5":
        h5py = pytest.importorskip("h5py")
        return h5py.File(tmp_path / f"{shape[1]}.h5", "w").create_dataset("out", shape, dtype)
    return np.empty(shape, dtype)


@pytest.mark.parametrize("store", ["memmap", "hdf5", "array"])
def test_results_are_written_where_the_caller_wants_them(tmp_path, by_class, store):
    model = AutoencoderTransformer(**SMALL).fit(by_class)
    source = mapped(tmp_path, by_class)
    out = writable(tmp_path, store, (len(by_class), 4), np.float64)
    assert model.transform(source, out=out) is out
    np.testing.assert_array_equal(out[:], model.transform(by_class))
    out = writable(tmp_path, store, by_class.shape, np.float32)
    assert model.reconstruct(by_class, out=out) is out
    np.testing.assert_array_equal(out[:], model.reconstruct(by_class))


@pytest.mark.parametrize("options", [{}, {"patch_size": 6}], ids=str)
def test_images_are_written_where_the_caller_wants_them(tmp_path, options):
    images = load_digits().images[:30]
    model = DenoisingAutoencoder(**SMALL, **options).fit(images)
    out = writable(tmp_path, "memmap", images.shape, np.float32)
    assert model.denoise(images, out=out) is out
    np.testing.assert_array_equal(out, model.denoise(images))


@pytest.mark.parametrize(
    "out",
    [np.zeros((5, 3)), np.zeros((4, 4)), np.zeros((5, 4), int), [0.0] * 5],
    ids=["narrow", "short", "integers", "list"],
)
def test_an_out_that_does_not_fit_is_refused(by_class, out):
    model = AutoencoderTransformer(**SMALL).fit(by_class[:100])
    with pytest.raises(ValueError, match=r"out must be an array of floats of shape \(5, 4\)"):
        model.transform(by_class[:5], out=out)
