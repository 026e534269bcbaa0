"""Speed of skae and of other ways to train the same autoencoder.

Three nets, each contender in a process of its own, warm, in turn, several
rounds; then what concerns only skae: the first fit in a fresh process, time
over the number of rows, many members at once, and scoring on one thread.
A contender that is not installed is left out, and named. Prints Markdown.

    python examples/benchmarks/speed.py
    python examples/benchmarks/speed.py --nets small --rounds 2 --extras none
    python examples/benchmarks/speed.py --busy 2

The last one starts two processes that keep cores busy, and compares skae with itself on one thread.

Every contender trains the same layers (ReLU, mirrored), epochs and batch size
with Adam at a constant 1e-3, in float32, on shuffled rows, without early
stopping. Tables come standardized and pixels in [0, 1]; skae (``scaling``) and
PyOD (``preprocessing``) scale the tables again inside the fit, as their users
do, and PyOD also scores the training rows there. Losses are the mean squared
error of the reconstructed training rows, measured by one function for all.
Ratios are the medians of the rounds' ratios. On the small table the contenders
run on one thread, where they are fastest; skae chooses by itself.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from busy import compare_busy
from contenders import CONTENDERS
from nets import NETS, load

HERE = Path(__file__).resolve().parent
PACKAGES = ("numpy", "scikit-learn", "torch", "pyod", "skorch", "keras")
EXTRAS = ("cold", "scaling", "members", "scoring")


class Process:
    """A contender's worker, which does one thing at a time."""

    def __init__(self, name: str, net: str, path: Path):
        command = [sys.executable, str(HERE / "contenders.py"), name, net, str(path)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.absent = self._answer().get("absent")

    def ask(self, do: str, **arguments) -> float:
        """The worker's answer to a command."""
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"worker ended with code {self._process.wait()}: see above")
        return json.loads(line)


def measure(net: str, names: list[str], rounds: int, path: Path) -> dict[str, dict]:
    """Figures of each contender, one a round; peak memory once, after the first fit."""
    processes, figures = start(net, names, path), defaultdict(lambda: defaultdict(list))
    try:
        for seed in range(rounds):
            for name, process in processes.items():
                figures[name]["seconds"].append(process.ask("fit", seed=seed))
                note = f"{net}, round {seed}, {name}: {figures[name]['seconds'][-1]:.2f} s"
                print(note, file=sys.stderr, flush=True)
                if not seed:
                    figures[name]["memory"].append(process.ask("memory"))
                figures[name]["loss"].append(process.ask("loss"))
                figures[name]["rate"].append(process.ask("rate"))
    finally:
        for process in processes.values():
            process.close()
    return figures


def start(net: str, names: list[str], path: Path) -> dict[str, Process]:
    """Workers, warmed up one after another; says which contenders are not installed."""
    processes = {}
    for name in names:
        process = Process(name, net, path)
        if process.absent:
            print(f"Left out: {name} ({process.absent}).\n")
            process.close()
        else:
            processes[name] = process
    return processes


def compare(net: str, names: list[str], rounds: int, data: Path) -> None:
    """Print one net's table."""
    spec = NETS[net]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        X, what = load(net, data)
        np.save(path, X)
        print(f"\n### {spec.title}: {len(X):,} x {X.shape[1]}, {what}\n")
        del X
        widths = "-".join(map(str, spec.widths))
        print(f"Net {widths}, batch {spec.batch_size}, {spec.epochs} epochs, {rounds} rounds.\n")
        figures = measure(net, names, rounds, path)
    headings = ["contender", "fit, s", "fit / skae", "final loss", "peak MB", "rows scored / s"]
    print_table(headings, [row(name, figures) for name in figures])


def row(name: str, figures: dict[str, dict]) -> list[str]:
    """Medians of one contender."""
    mine = figures[name]
    ratio = "-"
    if "skae" in figures:
        pairs = zip(mine["seconds"], figures["skae"]["seconds"], strict=True)
        ratio = f"{statistics.median(a / b for a, b in pairs):.2f}"
    median = {key: statistics.median(values) for key, values in mine.items()}
    return [
        name,
        f"{median['seconds']:.3f}",
        ratio,
        f"{median['loss']:.5f}",
        f"{median['memory']:.0f}",
        f"{median['rate']:,.0f}",
    ]


def print_table(headings: list[str], rows: list[list[str]]) -> None:
    """Markdown, the first column to the left and the others to the right."""
    print("| " + " | ".join(headings) + " |")
    print("|---|" + "---:|" * (len(headings) - 1))
    for cells in rows:
        print("| " + " | ".join(cells) + " |", flush=True)


def extra(name: str, *arguments: object) -> dict:
    """What one run of ``extras.py`` in a fresh process measured."""
    command = [sys.executable, str(HERE / "extras.py"), name, *map(str, arguments)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def cold(rounds: int) -> None:
    print("\n### First fit in a fresh process: small table\n")
    runs = [extra("cold") for _ in range(rounds)]
    headings = ["", "import skae, s", "first fit, s", "second fit, s"]
    keys = ("import", "first", "second")
    medians = [f"{statistics.median(run[key] for run in runs):.3f}" for key in keys]
    print_table(headings, [["median", *medians]])


def scaling(rounds: int) -> None:
    print("\n### Time over rows: large table's net and epochs\n")
    found = extra("scaling", rounds)
    rows = [[f"{n:,}", f"{t:.4f}", f"{1e6 * t / n:.3f}"] for n, t in found["seconds"]]
    print_table(["rows", "fit, s", "microseconds a row"], rows)
    print(f"\nLog-log slope from {rows[0][0]} to {rows[-1][0]} rows: {found['slope']:.3f}.")


def members(rounds: int) -> None:
    print("\n### 16 models at once: 20-16-8-16-20, batch 32, 2,000 rows\n")
    found = extra("members", rounds)
    rows = [
        [name, f"{found[name]:.3f}", f"{found[name + ' us']:.1f}"]
        for name in ("one by one", "stacked")
    ]
    print_table(["16 models", "training, s", "microseconds a model and step"], rows)
    print(
        f"\nStacked is {found['ratio']:.2f} times as fast; largest difference between the "
        f"weights in float64: {found['difference']:.1e} (in float32: {found['difference 32']:.1e})."
    )


def scoring(rounds: int) -> None:
    print("\n### Scoring on one thread: large table's net\n")
    found = extra("scoring", rounds)
    print(f"{found['rate']:,.0f} rows a second.")


def print_setting() -> None:
    """Versions and machine."""
    names = [f"Python {platform.python_version()}"]
    for package in ("skae", *PACKAGES):
        try:
            names.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            import_only = package == "skae"
            names.append(f"{package} (from this checkout)" if import_only else f"no {package}")
    print(f"{', '.join(names)}; {cpu_name()}, {len(os.sched_getaffinity(0))} cores.")


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def several(allowed):
    """Parser of a list with commas, or ``none``."""

    def parse(text: str) -> list[str]:
        names = [] if text == "none" else text.split(",")
        if unknown := set(names) - set(allowed):
            raise argparse.ArgumentTypeError(f"{unknown} not in {list(allowed)}")
        return names

    return parse


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    nets, everyone = list(NETS), list(CONTENDERS)
    parser.add_argument("--nets", type=several(nets), default=nets, help=",".join(nets))
    parser.add_argument(
        "--contenders", type=several(everyone), default=everyone, help=",".join(everyone)
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--extras", type=several(EXTRAS), default=EXTRAS, help=",".join(EXTRAS))
    parser.add_argument("--busy", type=int, help="processes that keep cores busy meanwhile")
    images = HERE.parents[1] / "../shared/data/images/mnist.npz"
    parser.add_argument("--data", type=Path, default=images, help="MNIST as npz")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    print_setting()
    if options.busy is not None:
        rows = compare_busy(options.nets, options.busy, options.rounds, options.data)
        print_table(["what", "one thread, s", "as skae chooses, s", "ratio"], rows)
        return
    for net in options.nets:
        compare(net, options.contenders, options.rounds, options.data)
    for name in options.extras:
        {"cold": cold, "scaling": scaling, "members": members, "scoring": scoring}[name](
            options.rounds
        )


if __name__ == "__main__":
    main()
