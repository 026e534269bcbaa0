"""Sources of rows: memory maps, HDF5, zarr, and whatever has slices."""

import os

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer, DenoisingAutoencoder
from skae._data.sources import source_of

SMALL = {"hidden_layer_sizes": (16,), "n_components": 4, "random_state": 0, "max_epochs": 6}


class Slices:
    """The least that a source has; rows from ``cut`` on are lacking once they are read."""

    def __init__(self, values, error=None, cut=None):
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.error, self.cut, self.n_reads = error, cut, 0

    def __getitem__(self, part):
        assert isinstance(part, slice)
        self.n_reads += 1
        if self.n_reads > 300 and self.error is not None:
            raise self.error
        return self.values[part] if self.n_reads <= 300 else self.values[part][: self.cut]


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


def in_hdf5(tmp_path, values):
    h5py = pytest.importorskip("h5py")
    file = h5py.File(tmp_path / "rows.h5", "w")
    chunks = (min(97, len(values)), *values.shape[1:])
    return file.create_dataset("rows", data=values, chunks=chunks, compression="gzip")


def in_zarr(tmp_path, values):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(
        tmp_path / "rows.zarr",
        shape=values.shape,
        dtype=values.dtype,
        chunks=(min(97, len(values)), *values.shape[1:]),
    )
    array[:] = values
    return array


STORES = {
    "memmap": mapped,
    "hdf5": in_hdf5,
    "zarr": in_zarr,
    "slices": lambda _, values: Slices(values),
}


def weights_of(estimator):
    return estimator._model.network.parameters.numpy()


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize(
    "estimator",
    [
        AutoencoderTransformer(**SMALL),
        DenoisingAutoencoder(**SMALL, scaling="robust"),
        AutoencoderAnomalyDetector(**SMALL, contamination=0.1),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_a_source_that_fits_in_memory_gives_the_bits_of_an_array(tmp_path, store, estimator):
    values = load_digits().data[:1000]
    values[::7, 20] = np.nan
    weights = np.arange(1000) % 3
    source = STORES[store](tmp_path, values)
    expected = clone(estimator).fit(values, sample_weight=weights)
    found = clone(estimator).fit(source, sample_weight=weights)
    np.testing.assert_array_equal(weights_of(found), weights_of(expected))
    np.testing.assert_array_equal(found.score_samples(source), expected.score_samples(values))


@pytest.mark.parametrize("store", STORES)
def test_images_from_a_source_give_the_bits_of_an_array(tmp_path, store):
    images = load_digits().images[:300].astype(np.uint8)
    source = STORES[store](tmp_path, images)
    expected = AutoencoderTransformer(**SMALL).fit(images)
    found = AutoencoderTransformer(**SMALL).fit(source)
    np.testing.assert_array_equal(found.reconstruct(source), expected.reconstruct(images))


@pytest.mark.parametrize("store", ["memmap", "hdf5", "zarr"])
def test_patches_of_a_source_are_those_of_an_array(tmp_path, store):
    images = load_digits().images[:30]
    source = STORES[store](tmp_path, images)
    model = DenoisingAutoencoder(**SMALL, patch_size=6)
    expected, found = clone(model).fit(images), clone(model).fit(source)
    np.testing.assert_array_equal(found.denoise(source), expected.denoise(images))


@pytest.mark.parametrize("store", STORES)
def test_a_source_gives_the_rows_that_an_array_does(tmp_path, monkeypatch, store):
    values = np.random.default_rng(0).normal(size=(500, 3, 2))
    source, rows = source_of(STORES[store](tmp_path, values)), values.reshape(500, 6)
    source.read_length = 64
    mask, some = rows[:, 0] > 0.5, np.array([3, 4, 70, 71, 320, 499])
    for part in (np.s_[:], np.s_[10:20], np.s_[60:70], np.s_[400:], np.s_[5:5], some, mask):
        np.testing.assert_array_equal(source[part][:], rows[part])
    np.testing.assert_array_equal(source[mask][20:40], rows[mask][20:40])
    np.testing.assert_array_equal(source[mask][np.array([0, 9])], rows[mask][[0, 9]])


@pytest.mark.parametrize("crop", [np.s_[7:], np.s_[3:90:2], np.s_[:, 1:], np.s_[50:60]])
def test_a_part_of_a_memory_map_is_read_where_it_lies(tmp_path, crop):
    values = np.random.default_rng(0).normal(size=(100, 5))
    np.testing.assert_array_equal(source_of(mapped(tmp_path, values)[crop])[:], values[crop])


def test_a_memory_map_of_a_file_that_was_replaced_is_read_as_mapped(tmp_path):
    values = np.random.default_rng(0).normal(size=(100, 5))
    old = mapped(tmp_path, values)
    mapped(tmp_path, values + 1, "new.npy")
    os.replace(tmp_path / "new.npy", tmp_path / "rows.npy")
    np.testing.assert_array_equal(source_of(old)[:], values)


def test_private_changes_to_a_memory_map_are_seen(tmp_path):
    mapped(tmp_path, np.zeros((100, 5)))
    private = np.load(tmp_path / "rows.npy", mmap_mode="c")
    private[50] = 1.0
    assert source_of(private)[50:51].sum() == 5.0


def test_arrays_matrices_and_frames_are_no_sources(by_class):
    pandas = pytest.importorskip("pandas")
    for X in (by_class, pandas.DataFrame(by_class), torch.from_numpy(by_class), [[1.0, 2.0]]):
        assert source_of(X) is None


def test_sources_of_a_wrong_kind_or_width_are_refused_as_arrays_are(by_class):
    model = AutoencoderTransformer(**SMALL).fit(by_class[:50])
    with pytest.raises(ValueError, match="X has 9 features, but AutoencoderTransformer is expect"):
        model.transform(Slices(by_class[:, :9]))
    with pytest.raises(ValueError, match="Complex data not supported"):
        model.fit(Slices(by_class.astype(complex)))
    with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\)"):
        model.fit(Slices(by_class[:0]))
