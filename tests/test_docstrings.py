"""Public docstrings: complete by numpydoc, true of the signature, examples that run."""

import ast
import doctest
import importlib
import inspect
import re
import textwrap
from pathlib import Path

import pytest

import skae

MODULES = ["skae", *(f"skae.{name}" for name in skae._SUBMODULES)]
# What is for Dask has the names of what it stands for.
PUBLIC = {
    f"dask.{name}" if module == "skae.dask" else name: getattr(
        importlib.import_module(module), name
    )
    for module in MODULES
    for name in importlib.import_module(module).__all__
    if not name.startswith("_")
}
CLASSES = {name: part for name, part in PUBLIC.items() if inspect.isclass(part)}
ESTIMATORS = [getattr(skae, name) for name in skae.__all__ if not name.startswith("_")]
METHODS = [
    (cls, name)
    for cls in CLASSES.values()
    for name, member in inspect.getmembers(
        cls, lambda m: inspect.isfunction(m) or inspect.ismethod(m)
    )
    if not name.startswith("_") and member.__module__.startswith("skae")
]
FUNCTIONS = [part for part in PUBLIC.values() if inspect.isfunction(part)]

# Parameters whose texts differ between the estimators, each with the reason. All others are
# written in AutoencoderTransformer's words: `python tests/test_docstrings.py` copies them.
DIFFERENT = {
    "n_components": "a share of the variance needs ordered latents",
    "network": "a U-net repairs, and is the denoiser's alone",
    "normalization": "a U-net is normalized",
    "hidden_layer_sizes": "a detector has narrow layers",
    "scaling": "a detector puts flags on their range",
    "dropout": "an imputer of few rows learns them by heart without it",
    "batch_size": "a network that fills gaps takes more rows a step",
    "init": "a detector of tables starts at random, drawn latents always do",
    "learning_rate": "a detector of large images takes a smaller one",
    "max_epochs": "a detector trains shortly, latents that are drawn want more steps",
    "latent_density": "drawing is what a variational autoencoder is for",
}

# What an example needs beside the package.
EXTRAS = {
    "AutoencoderAnomalyDetector": ["pandas"],
    "to_onnx": ["onnxscript", "onnxruntime"],
    "ParquetRows": ["pyarrow"],
    "LatentCodec": ["constriction"],
    "AnomalyMapDisplay": ["matplotlib", "skimage"],
    "AnomalyScoreDisplay": ["matplotlib"],
    "ContributionDisplay": ["matplotlib", "pandas"],
    "LatentSizeDisplay": ["matplotlib"],
    "LatentWalkDisplay": ["matplotlib"],
    "LossCurveDisplay": ["matplotlib"],
    "ReconstructionDisplay": ["matplotlib"],
    **{name: ["dask.array", "distributed"] for name in PUBLIC if name.startswith("dask.")},
}


def _blocks(cls):
    """The lines of each documented parameter, as they stand."""
    text = inspect.cleandoc(cls.__doc__).split("Parameters\n----------\n")[1]
    text = text.split("\n\nAttributes\n")[0]
    parts = re.split(r"\n(?=\S)", text)
    return {part.split(" : ")[0]: part for part in parts}


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_documented_parameters_are_those_of_the_signature(cls):
    docscrape = pytest.importorskip("numpydoc.docscrape")
    documented = {p.name: p.type for p in docscrape.ClassDoc(cls)["Parameters"]}
    signature = inspect.signature(cls).parameters
    assert list(documented) == list(signature)
    for name, parameter in signature.items():
        assert parameter.kind is parameter.KEYWORD_ONLY
        default = documented[name].split("default=")[1].split()[0].rstrip(",").strip('"')
        written = parameter.default
        assert str(written) == default or float(written) == float(default), name


@pytest.mark.parametrize("cls", ESTIMATORS[1:])
def test_equal_parameters_have_equal_texts_and_defaults(cls):
    ours, theirs = _blocks(cls), _blocks(skae.AutoencoderTransformer)
    defaults = inspect.signature(cls).parameters
    other_defaults = inspect.signature(skae.AutoencoderTransformer).parameters
    for name in ours.keys() & theirs.keys():
        if name not in DIFFERENT:
            assert ours[name] == theirs[name]
        if name not in ("latent_density", "dropout"):
            assert defaults[name].default == other_defaults[name].default, name


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_no_class_advertises_an_option_that_it_refuses(cls):
    for name, block in _blocks(cls).items():
        named = re.match(r"[^{]*\{([^}]*)\}", block.split("\n    ")[0].replace("\\\n", ""))
        options = [] if named is None else re.findall(r'"([a-z_]+)"', named[1])
        constraints = cls._parameter_constraints[name]
        known = {o for c in constraints for o in getattr(c, "options", ()) if isinstance(o, str)}
        assert set(options) <= known, name


@pytest.mark.parametrize("part", PUBLIC.values(), ids=list(PUBLIC))
def test_what_editors_show_has_no_placeholders(part):
    path = Path(inspect.getsourcefile(part))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name[0] != "_":
            text = ast.get_docstring(node) or ""
            assert not re.search(r"^\s*\{\w+\}\s*$", text, re.MULTILINE), node.name
            if node.name == part.__name__:
                assert inspect.cleandoc(part.__doc__) == text


@pytest.mark.parametrize(("cls", "name"), METHODS)
def test_methods_are_documented_and_annotated(cls, name):
    docscrape = pytest.importorskip("numpydoc.docscrape")
    method = getattr(cls, name)
    signature = inspect.signature(method)
    doc = docscrape.FunctionDoc(method)
    documented = [p.name.lstrip("*") for p in doc["Parameters"]]
    assert documented == [p for p in signature.parameters if p not in ("self", "cls")]
    assert doc["Returns"], "says what it returns"
    assert signature.return_annotation is not signature.empty
    given = [p for p in signature.parameters.values() if p.name != "self"]
    assert all(p.annotation is not p.empty for p in given)


@pytest.mark.parametrize(("cls", "name"), METHODS)
def test_methods_tell_the_errors_that_they_raise(cls, name):
    docscrape = pytest.importorskip("numpydoc.docscrape")
    method = inspect.unwrap(getattr(cls, name))
    told = {p.type for p in docscrape.FunctionDoc(method)["Raises"]}
    source = textwrap.dedent(inspect.getsource(method))
    code = source.split('"""')[-1]
    raised = set(re.findall(r"raise (\w+Error)\(", code))
    if "check_is_fitted(self)" in code:
        raised.add("NotFittedError")
    assert raised <= told


@pytest.mark.parametrize(("cls", "name"), METHODS)
def test_every_method_has_an_example_in_its_class(cls, name):
    inherited = [base for base in ESTIMATORS if base is not cls and issubclass(cls, base)]
    texts = [part.__doc__ for part in (cls, *inherited) if part.__doc__]
    own = getattr(cls, name).__doc__
    # A display is drawn by from_estimator, which calls plot.
    shown = any(f".{name}(" in text.split("Examples")[-1] for text in texts)
    covered = {"partial_fit", "fit_density", "plot", "fit"}
    assert shown or ">>>" in own or name in covered, f"{cls.__name__}.{name}"


@pytest.mark.parametrize("name", PUBLIC)
def test_example_runs(name):
    for module in EXTRAS.get(name, []):
        found = pytest.importorskip(module)
        if module == "matplotlib":
            found.use("Agg")
    part = PUBLIC[name]
    tests = doctest.DocTestFinder().find(part, name, globs={})
    assert sum(len(test.examples) for test in tests) > 0
    runner = doctest.DocTestRunner()
    for test in tests:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def copy_texts():
    """Write AutoencoderTransformer's words for equal parameters into the other classes."""
    source = _blocks(skae.AutoencoderTransformer)
    for cls in ESTIMATORS:
        path = Path(inspect.getsourcefile(cls))
        text = path.read_text(encoding="utf-8")
        for name, block in _blocks(cls).items():
            if name in source and name not in DIFFERENT and source[name] != block:
                old, new = (textwrap.indent(part, "    ") for part in (block, source[name]))
                text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    copy_texts()
