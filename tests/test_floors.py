"""The house: on which floor each wing stands, and the way of one array through it.

``python tests/test_floors.py`` prints both; docs/architecture.md shows what it prints, and the
tests here hold the code against it.
"""

import ast
import statistics
import sys
from collections.abc import Callable
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from sklearn.datasets import load_iris

import skae
from skae import AutoencoderAnomalyDetector, AutoencoderTransformer

ROOT = Path(skae.__file__).parent
X = load_iris().data

# The top one first. A file imports from floors below its own, and within its wing in no circle.
FLOORS = [
    ["__init__"],
    ["checkpoints"],
    ["io", "export"],
    ["_files"],
    ["codec", "model_selection", "segmentation", "inspection", "parquet", "dask"],
    ["_distributed", "_displays"],
    ["_estimators"],
    ["_anomaly", "_images", "_coding"],
    ["_model"],
    ["_training"],
    ["_networks"],
    ["_data"],
    ["_runtime", "exceptions"],
]

# Where one array goes: file, function, what it does there.
FIT = [
    ("_estimators.base", "fit", "parameters are checked, all or nothing"),
    ("_estimators.fitting", "prepare", "validate, scale, build:"),
    ("_estimators.inputs", "check_rows", "  an array, images, a frame or a file becomes rows"),
    (
        "_estimators.fitting",
        "_resolved",
        "  what the parameters stand for: spec and plan",
    ),
    ("_data.scale", "fit_scaler", "  a center and a scale for each column, chunk by chunk"),
    ("_networks.factory", "initialize", "  a network with random weights"),
    ("_data.loaded", "load_rows", "  the scaled rows, as one tensor"),
    ("_networks.principal", "start_as_pca", "  weights that rebuild rows as PCA does"),
    ("_estimators.callbacks", "train_watched", "train, and tell callbacks:"),
    ("_training.loop", "train", "  epoch by epoch, batch by batch:"),
    ("_data.loaded", "take", "    rows are gathered into the step's input"),
    ("_networks.dense_step", "forward", "    latents and outputs"),
    ("_networks.dense_step", "backward", "    the gradient, from the loss's slope"),
    ("_training.optimizers", "step", "    the parameter vector moves"),
    ("_estimators.base", "_keep", "keep: model, state, loss curve, and what else is learned"),
]
PREDICT = [
    ("_estimators.latent", "transform", ""),
    ("_estimators.inputs", "check_rows", "rows, as in the fit"),
    ("_model.model", "encode", "batch by batch, under a memory bound:"),
    ("_data.scale", "transform", "  scaled"),
    ("_networks.dense", "encode", "  latents"),
]
CALIBRATE = [
    ("_estimators.calibrated", "_keep", "after the training, as above:"),
    ("_anomaly.calibration", "calibrated", "one pass over held-out and other rows:"),
    ("_model.model", "coded", "  a batch, and what the networks make of it"),
    ("_anomaly.rows", "add", "  its latents and residuals are noted"),
    ("_anomaly.rows", "fit", "views of them, each with what is usual"),
    ("_anomaly.thresholds", "unusual", "the threshold"),
]
SCORE = [
    ("_estimators.detector", "score_samples", ""),
    ("_estimators.inputs", "check_rows", "rows, as in the fit"),
    ("_model.model", "map", "batch by batch:"),
    ("_model.model", "coded", "  a batch, and what the networks make of it"),
    ("_anomaly.rows", "outlyingness", "  distances in each view, calibrated, combined"),
]
WALKS = {
    "fit": FIT,
    "transform": PREDICT,
    "fit of a detector": CALIBRATE,
    "score_samples of a detector": SCORE,
}


def files() -> dict[str, Path]:
    """All files by their dotted names."""
    paths = [path for path in ROOT.rglob("*.py") if path.name != "__init__.py"]
    named = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}
    return {"__init__": ROOT / "__init__.py", **dict(sorted(named.items()))}


def imports(path: Path) -> set[str]:
    """Modules that a file imports, dotted."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def inner_imports(name: str) -> set[str]:
    """Files of the package that a file of it imports."""
    known = files()
    modules = {m.removeprefix("skae.") for m in imports(known[name]) if m.startswith("skae.")}
    return modules & known.keys()


def wing(name: str) -> str:
    return name.split(".")[0]


def floor(name: str) -> int:
    """Number of the floor, the ground floor's being 0."""
    return next(i for i, rooms in enumerate(reversed(FLOORS)) if wing(name) in rooms)


def walked(action: Callable[[], object]) -> list[tuple[str, str]]:
    """File and name of each function of the package that is called."""
    calls: list[tuple[str, str]] = []

    def note(frame, event, argument):
        module = frame.f_globals.get("__name__", "")
        if event == "call" and module.startswith("skae."):
            calls.append((module.removeprefix("skae."), frame.f_code.co_name))

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return calls


def house() -> str:
    """The floors, each wing with its files."""
    lines = []
    for number, rooms in zip(range(len(FLOORS) - 1, -1, -1), FLOORS, strict=True):
        for room in rooms:
            inside = [name.split(".", 1)[1] for name in files() if name.startswith(f"{room}.")]
            lines.append(f"{number:2d}  {room:16s}{' '.join(inside)}".rstrip())
    return "\n".join(lines)


def walks() -> str:
    """The way of one array, a walk a paragraph."""
    paragraphs = []
    for title, steps in WALKS.items():
        lines = [f"{f'{room}.{name}':39s} {text}".rstrip() for room, name, text in steps]
        paragraphs.append("\n".join([title, *("  " + line for line in lines)]))
    return "\n\n".join(paragraphs)


# Libraries that some wings must not know.
FRAMES = {"pandas", "polars", "dask"}
FORBIDDEN = {
    "_networks": {"numpy", "sklearn", *FRAMES},
    "_training.losses": {"numpy", "sklearn", *FRAMES},
    "_training.noise": {"numpy", "sklearn", *FRAMES},
    "_training": {"sklearn", "matplotlib", *FRAMES},
}


@pytest.mark.parametrize("name", files())
def test_file_imports_only_from_floors_below(name):
    for target in inner_imports(name):
        below = floor(target) < floor(name)
        assert below or wing(target) == wing(name), f"skae.{name} imports skae.{target}"


def test_no_circle_within_a_wing():
    graph = {name: inner_imports(name) for name in files()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)


@pytest.mark.parametrize("name", files())
def test_rooms_do_not_know_libraries_of_other_floors(name):
    imported = {module.split(".")[0] for module in imports(files()[name])}
    for room, libraries in FORBIDDEN.items():
        if name == room or name.startswith(f"{room}."):
            assert not imported & libraries


@pytest.mark.parametrize("name", files())
def test_private_parts_of_scikit_learn_are_known_to_estimators_alone(name):
    private = [
        module
        for module in imports(files()[name])
        if module.startswith("sklearn") and any(part[0] == "_" for part in module.split("."))
    ]
    assert not private or name == "_estimators.sklearn_private"


def test_what_is_public_lies_flat_and_says_what_it_has():
    for name, path in files().items():
        is_private = name.startswith("_") and name != "__init__"
        has_all = "__all__ = [" in path.read_text(encoding="utf-8")
        assert is_private == ("." in name), f"skae.{name}"
        assert is_private or has_all, f"skae.{name} has no __all__"


def test_devices_are_named_in_one_file():
    for name, path in files().items():
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        constants = {node.value for node in nodes if isinstance(node, ast.Constant)}
        assert "cuda" not in constants or name == "_runtime.device", f"skae.{name} names a device"


def test_files_and_functions_stay_small():
    lengths = []
    for name, path in files().items():
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 500, f"skae.{name} is too long"
        functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
        lengths += [function.end_lineno - function.lineno + 1 for function in functions]
    assert statistics.median(lengths) <= 10


def _assert_walk(steps, calls):
    """The steps are among the calls, in this order."""
    place = 0
    for room, name, _ in steps:
        assert (room, name) in calls[place:], f"{room}.{name} is not called, or earlier"
        place = calls.index((room, name), place)


def test_walks_are_true():
    settings = {"n_components": 2, "max_epochs": 1, "batch_size": 50, "random_state": 0}
    transformer = AutoencoderTransformer(**settings)
    _assert_walk(WALKS["fit"], walked(lambda: transformer.fit(X)))
    _assert_walk(WALKS["transform"], walked(lambda: transformer.transform(X)))
    detector = AutoencoderAnomalyDetector(**settings)
    _assert_walk(WALKS["fit of a detector"], walked(lambda: detector.fit(X)))
    scoring = walked(lambda: detector.score_samples(X))
    _assert_walk(WALKS["score_samples of a detector"], scoring)


@pytest.mark.parametrize("drawing", [house, walks])
def test_the_page_shows_the_house(drawing):
    page = Path(__file__).parent.parent / "docs" / "architecture.md"
    if not page.exists():
        pytest.skip("the pages are not here")
    assert drawing() in page.read_text(encoding="utf-8")


if __name__ == "__main__":
    print(house(), walks(), sep="\n\n")
