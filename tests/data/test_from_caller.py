"""What callers pass: tensors, lists and the like are converted once, and the rest is refused."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)
from skae._data.convert import from_caller, image_shape_of

X = load_digits().data[:60]
IMAGES = X.reshape(-1, 8, 8)
FEW = {"max_epochs": 1, "random_state": 0, "n_components": 3, "hidden_layer_sizes": (8,)}
CLASSES = [
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
    AutoencoderAnomalyDetector,
]


@pytest.mark.parametrize(
    "dtype",
    [
        torch.bfloat16,
        torch.float16,
        torch.float32,
        torch.float64,
        torch.uint8,
        torch.int16,
        torch.int64,
        torch.bool,
        torch.float8_e4m3fn,
    ],
    ids=str,
)
def test_tensors_of_any_dtype_are_arrays_of_their_values(dtype):
    tensor = torch.tensor(X % 2 if dtype == torch.bool else X, dtype=torch.float64).to(dtype)
    array = from_caller(tensor)
    assert isinstance(array, np.ndarray)
    np.testing.assert_array_equal(array, tensor.to(torch.float64).numpy())
    if dtype in (torch.bfloat16, torch.float8_e4m3fn):
        assert array.dtype == np.float32


VIEWS = {
    "plain": lambda t: t,
    "requires grad": lambda t: t.requires_grad_(),
    "has a history": lambda t: t.requires_grad_() * 1.0,
    "parameter": torch.nn.Parameter,
    "bfloat16 that requires grad": lambda t: t.bfloat16().requires_grad_(),
    "not contiguous": lambda t: t.T.contiguous().T,
    "negated view": lambda t: torch.complex(torch.zeros_like(t), -t).conj().imag,
    "list of tensors": lambda t: list(t.requires_grad_()),
    "list of bfloat16": lambda t: list(t.bfloat16()),
    "lists of numbers": lambda t: t.tolist(),
    "tuple of lists of tensors": lambda t: tuple(list(row) for row in t.requires_grad_()),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", [AutoencoderTransformer, AutoencoderAnomalyDetector])
def test_fits_and_predictions_take_tensors(kind, view):
    given = VIEWS[view](torch.tensor(X))
    # bfloat16 holds these numbers.
    same = X.astype(np.float32) if "bfloat16" in view else X
    expected, found = kind(**FEW).fit(same), kind(**FEW).fit(given)
    np.testing.assert_array_equal(found.score_samples(given), expected.score_samples(same))
    np.testing.assert_array_equal(found.score_samples(same), expected.score_samples(same))


@pytest.mark.parametrize("view", ["requires grad", "bfloat16 that requires grad"])
def test_every_method_takes_tensors(view):
    rows, images = (VIEWS[view](torch.tensor(values[:20])) for values in (X, IMAGES))
    model = DenoisingAutoencoder(**FEW).fit(rows, sample_weight=torch.ones(20).requires_grad_())
    Z = model.transform(rows)
    assert model.inverse_transform(VIEWS[view](torch.tensor(Z))).shape == (20, 64)
    mask = torch.zeros(20, 64, dtype=torch.bool)
    mask[:, 3] = True
    for found in (
        model.reconstruct(rows),
        model.denoise(rows),
        model.impute(rows),
        model.inpaint(rows, mask),
    ):
        assert found.shape == (20, 64)
        assert isinstance(found, np.ndarray)
    same = X[:20].astype(np.float32) if "bfloat16" in view else X[:20]
    expected = model.inpaint(same, mask.numpy())
    np.testing.assert_array_equal(model.inpaint(rows, mask), expected)
    assert model.score(rows, sample_weight=torch.ones(20)) == model.score(same)
    assert model.interpolate(rows[:2], rows[2:4], 3).shape == (6, 64)
    model.fit_density(rows, sample_weight=torch.ones(20)).partial_fit(rows)
    of_images = DenoisingAutoencoder(**FEW).fit(images)
    assert of_images.reconstruct(images).shape == (20, 8, 8)
    detector = AutoencoderAnomalyDetector(**FEW).fit(images)
    assert detector.anomaly_map(images).shape == (20, 8, 8)
    patches = DenoisingAutoencoder(patch_size=4, **FEW).fit(images)
    assert patches.denoise(images).shape == (20, 8, 8)
    assert patches.impute(images).shape == (20, 8, 8)
    assert patches.pixel_features(images[:1], (1,)).shape[:3] == (1, 8, 8)


class Rows(Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        return X[range(3)[i]]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(X)


class Frame:
    """What is computed by ``collect``."""

    columns = ("a", "b")

    def collect(self):
        return X


REFUSED = {
    "loader": (lambda: DataLoader(TensorDataset(torch.tensor(X))), ["DataLoader", "partial_fit"]),
    "tensor dataset": (lambda: TensorDataset(torch.tensor(X)), ["TensorDataset", "tensors"]),
    "dataset": (Rows, ["Rows", "array"]),
    "iterable dataset": (Stream, ["Stream", "array"]),
    "lazy": (Frame, ["Frame", "collect()"]),
    "generator": (lambda: (row for row in X), ["generator", "list"]),
    "map": (lambda: map(list, X), ["map", "list"]),
    "dict": (lambda: {"a": [1.0, 2.0]}, ["dict", "data frame"]),
    "set": (lambda: {1.0, 2.0}, ["set", "array"]),
    "object": (object, ["object", "array"]),
    "path": (lambda: "rows.npy", ["str", "np.load(path"]),
    "none": (lambda: None, ["NoneType", "array"]),
    "sparse tensor": (lambda: torch.tensor(X).to_sparse(), ["sparse", "to_dense()", "SciPy"]),
    "sparse rows": (lambda: torch.tensor(X).to_sparse_csr(), ["sparse", "to_dense()"]),
    "meta tensor": (lambda: torch.empty(4, 4, device="meta"), ["meta"]),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_what_holds_no_rows_is_refused_by_type_and_remedy(kind, name):
    make, words = REFUSED[name]
    fitted = kind(**FEW).fit(X)
    calls = [kind(**FEW).fit, kind(**FEW).partial_fit, fitted.score_samples, fitted.partial_fit]
    if hasattr(fitted, "transform"):
        calls += [fitted.transform, fitted.reconstruct, fitted.inverse_transform, fitted.score]
    if hasattr(fitted, "impute"):
        calls += [fitted.impute, fitted.denoise]
    if hasattr(fitted, "anomaly_map"):
        calls += [fitted.predict, fitted.feature_contributions, fitted.calibrate]
    for call in calls:
        with pytest.raises(TypeError) as caught:
            call(make())
        assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_lazy_frame_of_polars_is_refused():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(X[:, :3], schema=["a", "b", "c"])
    with pytest.raises(TypeError, match=r"LazyFrame.*collect\(\)"):
        AutoencoderTransformer(**FEW).fit(frame.lazy())
    AutoencoderTransformer(**FEW | {"n_components": 2}).fit(frame.lazy().collect())


class Array:
    """Counts how often it is converted."""

    def __init__(self, values):
        self.values, self.n_conversions = values, 0

    def __array__(self, dtype=None, copy=None):
        self.n_conversions += 1
        return np.array(self.values, dtype=dtype)


class List(list):
    """A list that counts how often it is converted."""

    n_conversions = 0

    def __array__(self, dtype=None, copy=None):
        self.n_conversions += 1
        return np.array([*self], dtype=dtype)


@pytest.mark.parametrize("shape", [(-1, 64), (-1, 8, 8)], ids=["rows", "images"])
@pytest.mark.parametrize("container", [Array, List])
@pytest.mark.parametrize("kind", CLASSES)
def test_lists_are_converted_once(kind, container, shape):
    values = X.reshape(shape).tolist()
    fitted = kind(**FEW).fit(X.reshape(shape))
    calls = {"fit": kind(**FEW).fit, "partial_fit": fitted.partial_fit}
    names = ("transform", "reconstruct", "score_samples", "score", "denoise", "impute",
             "fit_density", "predict", "outlier_probability", "anomaly_map")  # fmt: skip
    calls |= {name: getattr(fitted, name) for name in names if hasattr(fitted, name)}
    if len(shape) == 2:
        calls.pop("anomaly_map", None)
    for name, call in calls.items():
        given = container(values)
        call(given)
        # A detector's map takes the shape before the rows.
        most = 2 if name == "anomaly_map" and container is Array else 1
        assert given.n_conversions <= most, name
        assert given.n_conversions >= 1, name


@pytest.mark.parametrize("container", [Array, List])
def test_lists_of_latents_and_masks_are_converted_once(container):
    model = DenoisingAutoencoder(**FEW).fit(X)
    latents, rows = container(model.transform(X).tolist()), container(X.tolist())
    mask = container(np.zeros(X.shape, dtype=bool).tolist())
    model.inverse_transform(latents)
    model.inpaint(rows, mask)
    other, more = container(X.tolist()), container(X.tolist())
    model.interpolate(other, more)
    patches = DenoisingAutoencoder(patch_size=4, **FEW)
    images = [container(IMAGES.tolist()) for _ in range(4)]
    patches.fit(images[0]).denoise(images[1])
    patches.impute(images[2])
    patches.pixel_features(images[3], (1,))
    given = [latents, rows, mask, other, more, *images]
    assert [one.n_conversions for one in given] == [1] * len(given)


def test_a_codec_converts_lists_once():
    pytest.importorskip("constriction")
    from skae.codec import LatentCodec

    codec, train, rows = LatentCodec(AutoencoderTransformer(**FEW), max_epochs=0), List(X), List(X)
    data = codec.set_params(max_error=1.0).fit(train).encode(rows)
    assert np.abs(codec.decode(data) - X).max() <= 1.0
    assert train.n_conversions == rows.n_conversions == 1
    tensor = torch.tensor(X).requires_grad_()
    assert codec.fit(tensor).encode(tensor) == data


def test_the_shape_of_lists_is_that_of_their_array():
    for values in (X, IMAGES, IMAGES[:2, :, :, None], np.zeros((3, 0)), X[0], 1.0, "a", []):
        nested = values.tolist() if isinstance(values, np.ndarray) else values
        assert image_shape_of(nested) == image_shape_of(np.asarray(values))


def test_lists_of_images_of_different_sizes_are_refused():
    images = [np.zeros((4, 4)), np.zeros((4, 5))]
    with pytest.raises(ValueError, match="different sizes"):
        AutoencoderTransformer(**FEW).fit(images)
    with pytest.raises(ValueError, match="inhomogeneous"):
        AutoencoderTransformer(**FEW).fit([[1.0, 2.0], [3.0]])


def test_arrays_frames_and_files_stay_what_they_are(tmp_path):
    pandas = pytest.importorskip("pandas")
    np.save(tmp_path / "rows.npy", X)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    for given in (X, sparse.csr_array(X), pandas.DataFrame(X), pandas.Series(X[0]), mapped):
        assert from_caller(given) is given


SCRIPT = """
import numpy as np, torch, sklearn
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from skae import *
X = load_digits().data[:40]
few = dict(max_epochs=1, random_state=0, n_components=3, hidden_layer_sizes=(8,))
T, weights = torch.tensor(X).requires_grad_(), torch.ones(40)
with sklearn.config_context(array_api_dispatch=True):
    for kind in (AutoencoderTransformer, DenoisingAutoencoder, VariationalAutoencoder):
        model = kind(**few).fit(T, sample_weight=weights)
        Z = model.transform(T)
        assert isinstance(Z, np.ndarray)
        model.inverse_transform(torch.tensor(Z))
        model.reconstruct(T), model.score(T, sample_weight=weights), model.sample(2)
        model.score_samples(T), model.fit_density(T), model.partial_fit(T)
        model.fit_transform(T), model.fit(T.detach().bfloat16())
        model.fit(T.tolist()).transform(T.tolist())
    detector = AutoencoderAnomalyDetector(**few).fit(T, sample_weight=weights)
    detector.predict(T), detector.calibrate(T), detector.feature_contributions(T)
    images = T.reshape(-1, 8, 8)
    AutoencoderAnomalyDetector(**few).fit(images).anomaly_map(images)
    DenoisingAutoencoder(patch_size=4, **few).fit(images).denoise(images)
    DenoisingAutoencoder(**few).fit(T).impute(T)
"""


def test_tensors_are_taken_while_scikit_learn_dispatches_to_them():
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
    )
    if "array_api_compat is required" in done.stderr:
        pytest.skip("scikit-learn < 1.7 needs array_api_compat to dispatch")
    assert done.returncode == 0, done.stderr[-2000:]
