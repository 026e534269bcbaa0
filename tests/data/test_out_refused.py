"""What results cannot be written into is refused before anything is computed."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_digits

from skae import AutoencoderTransformer, DenoisingAutoencoder

X = load_digits().data[:30]
FEW = {"max_epochs": 1, "random_state": 0, "n_components": 3, "hidden_layer_sizes": (8,)}


@pytest.fixture(scope="module")
def model():
    return DenoisingAutoencoder(**FEW).fit(X)


def _read_only(array):
    array.flags.writeable = False
    return array


def _frame(shape):
    return pytest.importorskip("pandas").DataFrame(np.zeros(shape))


def _mapped(shape, folder):
    np.save(folder / "out.npy", np.zeros(shape))
    return np.load(folder / "out.npy", mmap_mode="r")


def _hdf5(shape, folder):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "out.h5", "w") as file:
        file["out"] = np.zeros(shape)
    return h5py.File(folder / "out.h5", "r")["out"]


WRONG = {
    "list": (lambda shape, folder: np.zeros(shape).tolist(), "list"),
    "text": (lambda shape, folder: "out.npy", "str"),
    "number": (lambda shape, folder: 3.0, "float"),
    "tensor": (lambda shape, folder: torch.zeros(shape), "tensor"),
    "frame": (lambda shape, folder: _frame(shape), "DataFrame"),
    "sparse": (lambda shape, folder: sparse.csr_array(np.zeros(shape)), "csr_array"),
    "integers": (lambda shape, folder: np.zeros(shape, np.int64), "int64"),
    "booleans": (lambda shape, folder: np.zeros(shape, bool), "bool"),
    "complex": (lambda shape, folder: np.zeros(shape, complex), "complex128"),
    "objects": (lambda shape, folder: np.zeros(shape, object), "object"),
    "text array": (lambda shape, folder: np.zeros(shape, "U3"), "U3"),
    "short": (lambda shape, folder: np.zeros((shape[0] - 1, *shape[1:])), "shape"),
    "wide": (lambda shape, folder: np.zeros((shape[0], shape[1] + 1)), "shape"),
    "flat": (lambda shape, folder: np.zeros(np.prod(shape)), "shape"),
    "read-only": (lambda shape, folder: _read_only(np.zeros(shape)), "read-only"),
    "mapped to read": (_mapped, "read-only"),
    "hdf5 to read": (_hdf5, "read-only"),
}


@pytest.mark.parametrize("method", ["transform", "reconstruct", "denoise"])
@pytest.mark.parametrize("name", WRONG)
def test_an_out_of_a_wrong_kind_is_refused(model, tmp_path, method, name):
    make, word = WRONG[name]
    shape = (30, 3) if method == "transform" else X.shape
    words = rf"out must be an array of floats of shape \({shape[0]}, {shape[1]}\).*{word}"
    with pytest.raises(ValueError, match=words):
        getattr(model, method)(X, out=make(shape, tmp_path))


@pytest.mark.parametrize("name", ["tensor", "frame", "read-only", "integers"])
def test_an_out_for_images_of_a_wrong_kind_is_refused(tmp_path, name):
    images = X.reshape(-1, 8, 8)
    patches = DenoisingAutoencoder(patch_size=4, **FEW).fit(images)
    out = WRONG[name][0](images.shape if name != "frame" else X.shape, tmp_path)
    with pytest.raises(ValueError, match=r"out must be an array of floats of shape \(30, 8, 8\)"):
        patches.reconstruct(images, out=out)


def test_an_out_of_lists_of_rows_has_their_shape(model):
    out = np.zeros(X.shape, np.float32)
    assert model.reconstruct(X.tolist(), out=out) is out
    np.testing.assert_array_equal(out, model.reconstruct(X))
    out = torch.zeros(30, 3)
    AutoencoderTransformer(**FEW).fit(X).transform(X, out=out.numpy())
    assert out.abs().sum() > 0
