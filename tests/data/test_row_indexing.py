"""Rows of files by what indexes the rows of an array, and by several threads at a time."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.model_selection import cross_val_score

from skae import AutoencoderTransformer
from skae._data.convert import FlatImages
from skae._data.sources import Source, source_of

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

N_ROWS, N_COLUMNS = 23, 6
ROWS = np.arange(N_ROWS * N_COLUMNS, dtype=np.float32).reshape(N_ROWS, N_COLUMNS)


class Stored:
    """A store that gives slices of consecutive rows alone."""

    def __init__(self, rows):
        self._rows, self.shape, self.dtype = rows, rows.shape, rows.dtype

    def __getitem__(self, part):
        assert isinstance(part, slice)
        assert part.step is None
        return self._rows[part]


def _mapped(folder, array):
    path = folder / "rows.npy"
    np.save(path, array)
    return np.load(path, mmap_mode="r")


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    """Readers of the same rows, by name; all read a few rows at once."""
    folder = tmp_path_factory.mktemp("rows")
    mapped, stored = Source(_mapped(folder, ROWS)), Source(Stored(ROWS))
    images = Source(Stored(ROWS.reshape(N_ROWS, 2, 3)))
    large = Source(Stored(np.repeat(ROWS, 3, axis=0)))
    for source in (mapped, stored, images, large):
        source.read_length = 4
    subset = large[np.arange(3 * N_ROWS) % 3 == 1]
    flat = FlatImages(np.zeros((N_ROWS, 4, 5), np.float32)[:, 1:3, 1:4])
    flat._images[...] = ROWS.reshape(N_ROWS, 2, 3)
    found = {
        "mapped": mapped,
        "stored": stored,
        "images": images,
        "subset": subset,
        "subset of all": mapped[np.ones(N_ROWS, dtype=bool)],
        "flat images": flat,
    }
    try:
        import pyarrow
        import pyarrow.parquet

        from skae.parquet import ParquetRows
    except ImportError:
        return found
    table = pyarrow.table({f"c{j}": ROWS[:, j] for j in range(N_COLUMNS)})
    path = folder / "rows.parquet"
    pyarrow.parquet.write_table(table, path, row_group_size=5)
    parts = [folder / f"part{i}.parquet" for i in range(3)]
    for part, begin, end in zip(parts, (0, 9, 9), (9, 9, 23), strict=True):
        pyarrow.parquet.write_table(table[begin:end], part, row_group_size=4)
    parquet = ParquetRows(path)
    return found | {
        "parquet": parquet,
        "parquet files": ParquetRows(parts),
        "source of parquet": source_of(parquet),
    }


NAMES = ["mapped", "stored", "images", "subset", "subset of all", "flat images", "parquet",
         "parquet files", "source of parquet"]  # fmt: skip

_ends = st.none() | st.integers(-2 * N_ROWS, 2 * N_ROWS)
_steps = st.none() | st.integers(-2 * N_ROWS, 2 * N_ROWS).filter(bool)
_places = st.integers(-N_ROWS, N_ROWS - 1)
_masks = st.lists(st.booleans(), min_size=N_ROWS, max_size=N_ROWS)
INDICES = st.one_of(
    st.builds(slice, _ends, _ends, _steps),
    st.just(...),
    _places,
    _places.map(np.int32),
    _places.map(np.array),
    st.lists(_places),
    st.lists(_places, min_size=1).map(np.array),
    st.lists(st.integers(0, N_ROWS - 1), min_size=1).map(lambda a: np.array(a, dtype=np.uint8)),
    _masks,
    _masks.map(np.array),
)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150, deadline=None)
@given(index=INDICES)
def test_rows_are_those_of_an_array(readers, name, index):
    if name not in readers:
        pytest.skip("needs pyarrow")
    found, expected = readers[name][index], ROWS[index]
    if isinstance(found, Source):  # A mask is read later.
        assert found.shape == expected.shape
        found = found[:]
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected, strict=True)


MASK = np.arange(N_ROWS) % 3 == 0
COLUMNS = [(...,), (slice(None), ...), (slice(1, 4),), (slice(None, None, -2),), (2,), (..., 1),
           (np.int64(-1),)]  # fmt: skip
PLACES = {
    "integer": 3,
    "from the end": -1,
    "slice": slice(4, 9),
    "steps": slice(None, None, -3),
    "integers": [5, 2],
    "mask": MASK,
    "all": ...,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", PLACES)
def test_columns_may_follow(readers, name, place):
    """scikit-learn's splitters take rows by ``X[index, ...]``."""
    if name not in readers:
        pytest.skip("needs pyarrow")
    for columns in COLUMNS:
        if place == "all" and ... in columns:
            continue
        index = (PLACES[place], *columns)
        found = np.asarray(readers[name][index])
        np.testing.assert_array_equal(found, ROWS[index], strict=True)


def test_a_search_splits_rows_of_files(readers):
    if "parquet" not in readers:
        pytest.skip("needs pyarrow")
    model = AutoencoderTransformer(max_epochs=1, random_state=0, n_components=2)
    found = cross_val_score(model, readers["parquet"], cv=3)
    np.testing.assert_allclose(found, cross_val_score(model, ROWS, cv=3), rtol=1e-5)


WRONG = [N_ROWS, -N_ROWS - 1, [0, N_ROWS], np.array([0, -N_ROWS - 1]), [True] * (N_ROWS - 1),
         np.array([0.5]), [[0.5]], "a", None, True, [[0, 1], [2, 3]], ([0, 1], [2, 3]),
         (0, None), ()]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("index", WRONG, ids=str)
def test_other_indices_are_refused(readers, name, index):
    if name not in readers:
        pytest.skip("needs pyarrow")
    with pytest.raises(IndexError):
        readers[name][index]


@pytest.mark.parametrize("name", NAMES)
def test_readers_are_sequences_of_rows(readers, name):
    if name not in readers:
        pytest.skip("needs pyarrow")
    reader = readers[name]
    assert len(reader) == N_ROWS
    np.testing.assert_array_equal(np.stack(list(reader)), ROWS)
    np.testing.assert_array_equal(np.asarray(reader), ROWS)


@pytest.mark.parametrize("name", NAMES)
def test_threads_read_their_own_rows(readers, name):
    if name not in readers:
        pytest.skip("needs pyarrow")
    reader = readers[name]

    def read(begin):
        for i in itertools.islice(itertools.cycle(range(begin, N_ROWS, 3)), 300):
            np.testing.assert_array_equal(reader[i : i + 2], ROWS[i : i + 2])
        return True

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(read, range(8)))


def test_a_block_that_another_thread_replaces_is_still_returned(monkeypatch):
    source = Source(Stored(ROWS))
    source.read_length = 4
    read = source._read

    def read_and_be_overtaken(start, stop):
        rows = read(start, stop)
        if start == 0:
            source[8:10]
        return rows

    monkeypatch.setattr(source, "_read", read_and_be_overtaken)
    np.testing.assert_array_equal(source[1:3], ROWS[1:3])

    class Forgetful(Source):
        """Whose kept block is gone as soon as it is looked at once more."""

        looks = 0

        @property
        def _kept(self):
            self.looks += 1
            return (0, ROWS[:4]) if self.looks == 1 else (4, ROWS[4:8])

        @_kept.setter
        def _kept(self, value):
            self.looks = 0

    forgetful = Forgetful(Stored(ROWS))
    forgetful.read_length = 4
    np.testing.assert_array_equal(forgetful[1:3], ROWS[1:3])


def test_a_codec_fits_on_a_file_of_many_rows(tmp_path):
    pytest.importorskip("constriction")
    from skae.codec import LatentCodec

    rng = np.random.default_rng(0)
    X = (rng.normal(size=(20_000, 2)) @ rng.normal(size=(2, 4))).astype(np.float32)
    mapped = _mapped(tmp_path, X)
    estimator = AutoencoderTransformer(n_components=2, max_epochs=1, random_state=0)
    codec = LatentCodec(estimator, max_error=0.1, max_epochs=0, random_state=0)
    data = codec.fit(mapped).encode(X[:100])
    assert data == LatentCodec(estimator, max_error=0.1, max_epochs=0).fit(X).encode(X[:100])
    assert np.abs(codec.decode(data) - X[:100]).max() <= 0.1
