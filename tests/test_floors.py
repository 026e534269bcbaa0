"""The house of docs/architecture.md: a file imports only from floors below its own."""

import ast
from pathlib import Path

import pytest

import skae

ROOT = Path(skae.__file__).parent

# Ground floor first. Files of one entry may import each other; any may import exceptions.
FLOORS = [
    [["exceptions"], ["_records"], ["_container"]],
    [["randomness"], ["device"]],
    [["data.spec"], ["data.validate"], ["data.sources"]],
    [["data.scale"]],
    [["data.batches"], ["data.patches"], ["data.columns"]],
    [["data.stream"]],
    [
        [
            "networks.activations",
            "networks.latents",
            "networks.products",
            "networks.dense",
            "networks.principal",
            "networks.step",
            "networks.modules",
            "networks.holes",
            "networks.conv",
            "networks.build",
        ],
        ["losses"],
        ["noise"],
    ],
    [
        [
            "training.plan",
            "training.optimizers",
            "training.monitor",
            "training.feeds",
            "training.loop",
            "training.stack",
            "training.defaults",
        ],
        ["inference"],
        ["thresholds"],
    ],
    [
        ["scoring"],
        ["maps"],
        ["density"],
        [
            "coding.entropy",
            "coding.quantizer",
            "coding.refine",
            "coding.residual",
            "coding.stream",
        ],
    ],
    [["defects"]],
    [["_callbacks"], ["_parameters"], ["_settings"], ["_together"]],
    [["_base"]],
    [["_sampling"]],
    [["_transformer", "_denoiser", "_variational"], ["_detector"]],
    [["codec"]],
    [["_codec_file"], ["_model_file"]],
    [
        ["inspection"],
        ["segmentation"],
        ["model_selection"],
        ["io", "checkpoints"],
        ["export"],
        ["parquet"],
    ],
    [["__init__"]],
]
ROOMS = {
    file: (i, j) for i, floor in enumerate(FLOORS) for j, room in enumerate(floor) for file in room
}

# Libraries that some rooms must not know.
FORBIDDEN = {
    "networks": {"sklearn", "pandas", "polars"},
    "losses": {"numpy", "sklearn", "pandas", "polars"},
    "noise": {"numpy", "sklearn", "pandas", "polars"},
    "training": {"sklearn", "pandas", "polars", "dask", "matplotlib"},
}
FILES = sorted(
    str(path.relative_to(ROOT).with_suffix("")).replace("/", ".").replace("\\", ".")
    for path in ROOT.rglob("*.py")
)
FILES = [name for name in FILES if name == "__init__" or not name.endswith("__init__")]


def _imports(name):
    tree = ast.parse((ROOT / (name.replace(".", "/") + ".py")).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("name", FILES)
def test_file_imports_only_from_floors_below(name):
    floor, room = ROOMS[name]
    for module in _imports(name):
        if not module.startswith("skae."):
            continue
        target = module.removeprefix("skae.")
        if target == "training":  # `from skae.training import defaults`
            target = "training.defaults"
        other_floor, other_room = ROOMS[target]
        assert other_floor < floor or (other_floor, other_room) == (floor, room), (
            f"skae.{name} imports skae.{target}"
        )


@pytest.mark.parametrize("name", FILES)
def test_rooms_do_not_know_libraries_of_other_floors(name):
    top = name.split(".")[0]
    imported = {module.split(".")[0] for module in _imports(name)}
    assert not imported & FORBIDDEN.get(top, set())


def test_devices_are_named_in_one_file():
    for name in FILES:
        text = (ROOT / (name.replace(".", "/") + ".py")).read_text()
        names = [
            node.value
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Constant) and node.value == "cuda"
        ]
        assert not names or name == "device", f"skae.{name} names a device"


def test_no_file_outgrows_its_reason():
    for name in FILES:
        lines = (ROOT / (name.replace(".", "/") + ".py")).read_text().count("\n")
        assert lines <= 600, f"skae.{name} has {lines} lines"
