"""Coordinates in which an error of latents is one of rows."""

import numpy as np
import pytest

from skae._coding.quantizer import decoder_metric, fit_quantizer

pytest.importorskip("constriction")

pytest.importorskip("hypothesis")


def test_coordinates_make_the_error_of_rows_the_error_of_latents():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(3, 10))
    latents = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 3)) + 2.0
    metric = decoder_metric(lambda z: z @ matrix, latents[:20], 1.0)
    np.testing.assert_allclose(metric, matrix @ matrix.T, rtol=1e-9)
    quantizer = fit_quantizer(latents, metric, step=0.01)
    u = quantizer.coordinates(latents)
    assert np.abs(np.corrcoef(u.T) - np.eye(3)).max() < 1e-9
    moved = quantizer.latents(np.rint(u + 100.0 * rng.normal(size=u.shape)))
    distances = np.linalg.norm(moved @ matrix - latents @ matrix, axis=1)
    steps = np.linalg.norm(quantizer.coordinates(moved) - u, axis=1)
    np.testing.assert_allclose(distances, 0.01 * steps, rtol=1e-9)
