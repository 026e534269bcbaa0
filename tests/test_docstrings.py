"""Public docstrings: complete by numpydoc, true of the signature, examples that run."""

import doctest
import inspect

import pytest

import skae
import skae.checkpoints
import skae.codec
import skae.export
import skae.inspection
import skae.io
import skae.parquet

CLASSES = [
    skae.AutoencoderTransformer,
    skae.DenoisingAutoencoder,
    skae.VariationalAutoencoder,
    skae.AutoencoderAnomalyDetector,
]
DISPLAYS = [
    skae.inspection.AnomalyScoreDisplay,
    skae.inspection.ContributionDisplay,
    skae.inspection.LatentWalkDisplay,
]
FUNCTIONS = [skae.io.save, skae.export.to_onnx, skae.checkpoints.resumable_fit]
OTHERS = [skae.codec.LatentCodec, skae.parquet.ParquetRows]
METHODS = [
    (cls, name)
    for cls in [*CLASSES, *DISPLAYS, *OTHERS]
    for name, member in inspect.getmembers(cls, inspect.isfunction)
    if not name.startswith("_") and member.__module__.startswith("skae")
]


@pytest.mark.parametrize("cls", CLASSES)
def test_documented_parameters_are_those_of_the_signature(cls):
    docscrape = pytest.importorskip("numpydoc.docscrape")
    documented = {p.name: p.type for p in docscrape.ClassDoc(cls)["Parameters"]}
    signature = inspect.signature(cls).parameters
    assert sorted(documented) == sorted(signature)
    for name, parameter in signature.items():
        assert parameter.kind is parameter.KEYWORD_ONLY
        default = documented[name].split("default=")[1].split()[0].rstrip(",").strip('"')
        written = parameter.default
        assert str(written) == default or float(written) == float(default), name


@pytest.mark.parametrize(("cls", "name"), METHODS)
def test_documented_method_parameters_are_those_of_the_signature(cls, name):
    docscrape = pytest.importorskip("numpydoc.docscrape")
    method = getattr(cls, name)
    documented = [p.name for p in docscrape.FunctionDoc(method)["Parameters"]]
    assert documented == [p for p in inspect.signature(method).parameters if p != "self"]
    assert docscrape.FunctionDoc(method)["Returns"], "says what it returns"


@pytest.mark.parametrize("cls", [*CLASSES, *DISPLAYS, *FUNCTIONS, *OTHERS])
def test_example_runs(cls):
    if cls is skae.export.to_onnx:
        pytest.importorskip("onnxscript")
    if cls in DISPLAYS:
        pytest.importorskip("matplotlib").use("Agg")
    if cls is skae.parquet.ParquetRows:
        pytest.importorskip("pyarrow")
    if cls is skae.codec.LatentCodec:
        pytest.importorskip("constriction")
    tests = doctest.DocTestFinder().find(cls, cls.__name__, globs={})
    assert sum(len(test.examples) for test in tests) > 0
    runner = doctest.DocTestRunner()
    for test in tests:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
