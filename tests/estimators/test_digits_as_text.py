"""Digits as text are no numbers, whatever holds them, in the fit and after it."""

import numpy as np
import pytest

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer

NUMBERS = np.random.default_rng(0).integers(0, 9, size=(40, 3))
TEXT = NUMBERS.astype(str)
SMALL = {"max_epochs": 2, "random_state": 0, "device": "cpu"}
ONE_OF_TEXT = NUMBERS.astype(object)
ONE_OF_TEXT[3, 1] = "4"


def _frame(name, values):
    library = pytest.importorskip(name)
    return library.DataFrame({f"x{i}": list(column) for i, column in enumerate(values.T)})


HELD = {
    "text": lambda: TEXT,
    "bytes": lambda: TEXT.astype("S"),
    "objects": lambda: TEXT.astype(object),
    "lists": lambda: TEXT.tolist(),
    "StringDType": lambda: TEXT.astype(np.dtypes.StringDType()),
    "one cell of objects": lambda: ONE_OF_TEXT,
}
FRAMES = {
    "pandas": lambda: _frame("pandas", TEXT),
    "pandas objects": lambda: _frame("pandas", TEXT).astype(object),
    "polars": lambda: _frame("polars", TEXT),
}


@pytest.mark.parametrize("held", HELD)
def test_arrays_of_digits_are_refused(held):
    with pytest.raises(
        ValueError, match=r"Column [01] of X holds text, such as .*Pass a data frame"
    ):
        AutoencoderTransformer(**SMALL).fit(HELD[held]())


@pytest.mark.parametrize("held", FRAMES)
def test_digits_in_a_frame_are_categories(held):
    frame = FRAMES[held]()
    model = AutoencoderTransformer(**SMALL).fit(frame)
    assert [category.column for category in model._table.categories] == [0, 1, 2]
    rebuilt = model.inverse_transform(model.transform(frame))
    assert {str(value) for value in np.asarray(rebuilt)[:, 0]} <= set(TEXT[:, 0])


@pytest.mark.parametrize("held", HELD | FRAMES)
@pytest.mark.parametrize("cls", [AutoencoderTransformer, AutoencoderAnomalyDetector])
def test_where_the_fit_had_numbers_digits_are_refused(cls, held):
    X, model = (HELD | FRAMES)[held](), cls(**SMALL).fit(NUMBERS)
    method = model.score_samples if cls is AutoencoderAnomalyDetector else model.transform
    for call in (method, model.partial_fit):
        with pytest.raises(ValueError, match=r"of X holds text, such as .*astype\(float\)"):
            call(X)


def test_columns_of_numbers_beside_categories_are_looked_at_too():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": NUMBERS[:, 0], "b": TEXT[:, 1]})
    model = AutoencoderTransformer(**SMALL).fit(frame)
    with pytest.raises(ValueError, match="Column 'a' of X holds text"):
        model.transform(frame.astype({"a": str}))


def test_latents_and_images_of_text_are_refused():
    model = AutoencoderTransformer(**SMALL).fit(NUMBERS)
    latents = model.transform(NUMBERS).astype(str)
    with pytest.raises(ValueError, match="of Z holds text"):
        model.inverse_transform(latents)
    with pytest.raises(ValueError, match="of X holds text"):
        AutoencoderTransformer(**SMALL).fit(np.full((10, 8, 8), "3", dtype=object))
