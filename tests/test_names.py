"""What a user sees by dir, help and import."""

import subprocess
import sys

import numpy as np
import pytest

import skae

ESTIMATORS = [
    skae.AutoencoderTransformer,
    skae.DenoisingAutoencoder,
    skae.VariationalAutoencoder,
    skae.AutoencoderAnomalyDetector,
]


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_public_names_are_parameters_methods_and_fitted_attributes(cls):
    estimator = cls(max_epochs=1, device="cpu").fit(np.random.default_rng(0).normal(size=(40, 3)))
    parameters = set(estimator.get_params())
    for name in (name for name in dir(estimator) if not name.startswith("_")):
        known = name in parameters or name.endswith("_") or callable(getattr(estimator, name))
        assert known, name
        assert name.endswith("_") or name in parameters or getattr(cls, name).__doc__, name


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_help_begins_with_the_class_and_its_methods(cls):
    import pydoc

    text = pydoc.render_doc(cls, renderer=pydoc.plaintext)
    own, rest = text.split(" |  Methods defined here:")
    assert " |  Parameters\n" in own
    assert "Data and other attributes" not in own
    assert "Data and other attributes" in rest or "Methods inherited" in rest


@pytest.mark.slow
def test_submodules_are_there_without_what_they_need():
    program = """
import sys
import sklearn.base, sklearn.covariance, torch
try:
    import sklearn.callback
except ImportError:
    pass
before = set(sys.modules)
import skae
heavy = {"dask", "onnx", "onnxruntime", "onnxscript", "matplotlib", "pandas", "polars", "skimage"}
print(sorted(heavy & (set(sys.modules) - before)))
print([n for n in skae._SUBMODULES if getattr(skae, n).__name__ != "skae." + n])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
