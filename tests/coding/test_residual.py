"""Rounding of residuals that does not depend on the last bits."""

import numpy as np
import pytest

from skae._coding.residual import _rounded, _safe_offset

pytest.importorskip("constriction")

pytest.importorskip("hypothesis")


def test_offset_keeps_predictions_off_the_borders():
    # Each of these lies on the border of one offset; one offset is left.
    predictions = np.array([[k / 16 for k in range(16) if k != 5]])
    offset = _safe_offset(predictions)
    assert offset == 11
    for shift in (-1e-9, 1e-9):
        np.testing.assert_array_equal(
            _rounded(predictions, offset), _rounded(predictions + shift, offset)
        )
