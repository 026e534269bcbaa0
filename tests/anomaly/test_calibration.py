"""What is usual is learned in one pass over the rows."""

import numpy as np
import pytest

from skae import AutoencoderAnomalyDetector
from skae._model.model import Model

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(700, 5))
IMAGES = RNG.random((90, 9, 7)).cumsum(axis=2)
SMALL = {"n_components": 2, "hidden_layer_sizes": (4,), "max_epochs": 1, "random_state": 0}


@pytest.fixture
def counts(monkeypatch):
    """Rows that are scaled, and that go through the network."""
    counted = {"batches": 0, "codes_of": 0, "outputs_of": 0}

    def batches(self, X, scaled=True):
        counted["batches"] += X.shape[0]
        return original["batches"](self, X, scaled)

    def codes_of(self, batch):
        counted["codes_of"] += len(batch.values)
        return original["codes_of"](self, batch)

    def outputs_of(self, codes):
        counted["outputs_of"] += codes.shape[-2]
        return original["outputs_of"](self, codes)

    original = {name: getattr(Model, name) for name in counted}
    for function in (batches, codes_of, outputs_of):
        monkeypatch.setattr(Model, function.__name__, function)
    return counted


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        *((TABLE, kind) for kind in ("auto", "isolation", "nearest", "reconstruction")),
        *((IMAGES, kind) for kind in ("auto", "nearest", "reconstruction")),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.ndim}-d",
)
def test_each_row_goes_through_the_network_once(counts, rows, kind):
    AutoencoderAnomalyDetector(**SMALL, anomaly_score=kind).fit(rows)
    _assert_one_pass(counts, len(rows), looks_before=rows.ndim == 3 and kind == "auto")


@pytest.mark.parametrize("rows", [TABLE, IMAGES], ids=["2-d", "3-d"])
def test_a_later_calibration_takes_one_pass_too(counts, rows):
    detector = AutoencoderAnomalyDetector(**SMALL).fit(rows)
    counts.update(dict.fromkeys(counts, 0))
    detector.calibrate(rows[:50])
    _assert_one_pass(counts, 50, looks_before=rows.ndim == 3)


def _assert_one_pass(counts, n, looks_before):
    """What surroundings tell of pixels is learned before, from images alone."""
    assert counts == {"batches": n * (1 + looks_before), "codes_of": n, "outputs_of": n}
