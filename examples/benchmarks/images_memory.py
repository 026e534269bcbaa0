"""Memory of scoring images from a memory map: 10,000 of 256 x 256 pixels by default.

    python examples/benchmarks/images_memory.py --images 10000 --side 256

Writes the images to a temporary file, fits a detector on the first 200, scores all, and
prints the peak of what Python and NumPy allocate meanwhile (tracemalloc; torch's own
buffers are in the growth of the process's peak).
"""

import argparse
import resource
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np

from skae import AutoencoderAnomalyDetector


def written(path: Path, n: int, side: int) -> np.ndarray:
    """Gradients with noise, uint8, as a memory map."""
    shape = (n, side, side)
    stored = np.lib.format.open_memmap(path, "w+", dtype=np.uint8, shape=shape)
    rng = np.random.default_rng(0)
    for i in range(0, n, 256):
        part = stored[i : i + 256]
        gradient = rng.integers(160, size=(len(part), 1, 1)) + np.linspace(0, 64, side)
        part[:] = gradient + rng.integers(24, size=part.shape)
    stored.flush()
    return np.load(path, mmap_mode="r")


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=256)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = written(Path(folder) / "images.npy", options.images, options.side)
        detector = AutoencoderAnomalyDetector(hidden_layer_sizes=(64,), max_epochs=2)
        detector.set_params(n_components=8, random_state=0).fit(images[:200])
        detector.score_samples(images[:64])
        before, start = peak_megabytes(), time.perf_counter()
        tracemalloc.start()
        detector.score_samples(images)
        traced = tracemalloc.get_traced_memory()[1] / 2**20
        seconds = time.perf_counter() - start
    print("| images | file, MB | allocated at most, MB | growth of the peak, MB | seconds |")
    print("|---|---:|---:|---:|---:|")
    size = options.images * options.side**2 / 2**20
    print(
        f"| {options.images:,} of {options.side} x {options.side} | {size:.0f} | {traced:.1f} | "
        f"{peak_megabytes() - before:.0f} | {seconds:.0f} |"
    )


if __name__ == "__main__":
    main()
