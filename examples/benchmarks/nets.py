"""The nets and the data that ``speed.py`` compares on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Net:
    """One comparison: a data set and the autoencoder that all contenders train.

    Attributes
    ----------
    title : str
    n_rows, n_columns : int
    hidden : tuple of int
        Widths of the encoder's hidden layers; the decoder mirrors them.
    latents, batch_size, epochs : int
    scaling : str or None
        skae's ``scaling``, and whether PyOD preprocesses; part of the fit that is timed.
    threads : int or None
        Threads of the contenders; None leaves the choice to them. skae always chooses itself.
    """

    title: str
    n_rows: int
    n_columns: int
    hidden: tuple[int, ...]
    latents: int
    batch_size: int
    epochs: int
    scaling: str | None
    threads: int | None = None

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of every layer from input to output."""
        inner = (*self.hidden, self.latents, *reversed(self.hidden))
        return (self.n_columns, *inner, self.n_columns)


NETS = {
    "small": Net("small table", 2_000, 20, (16,), 8, 32, 100, "standard", threads=1),
    "large": Net("large table", 1_000_000, 30, (64, 32), 8, 1024, 3, "standard"),
    "mnist": Net("MNIST", 60_000, 784, (128, 64), 32, 256, 5, None),
}


def table(n_rows: int, n_columns: int, seed: int = 0) -> np.ndarray:
    """A standardized float32 table: a curved surface of 5 dimensions, and noise."""
    rng = np.random.default_rng(seed)
    latents = rng.standard_normal((n_rows, 5), dtype=np.float32)
    inner = np.tanh(latents @ rng.standard_normal((5, 16), dtype=np.float32))
    X = inner @ rng.standard_normal((16, n_columns), dtype=np.float32)
    X += 0.3 * rng.standard_normal(X.shape, dtype=np.float32)
    X -= X.mean(axis=0, dtype=np.float64).astype(np.float32)
    X /= X.std(axis=0, dtype=np.float64).astype(np.float32)
    return X


def pixels(path: Path, net: Net) -> tuple[np.ndarray, str]:
    """MNIST's training images, as rows in [0, 1], or a stand-in; and which of the two."""
    if path.exists():
        with np.load(path) as images:
            X = images["X_train"].reshape(-1, net.n_columns)
        return np.divide(X, 255, dtype=np.float32), f"pixels of {path.name}"
    X = table(net.n_rows, net.n_columns)
    return 1 / (1 + np.exp(-X)), f"synthetic rows ({path} is absent)"


def load(name: str, path: Path) -> tuple[np.ndarray, str]:
    """The data of a net, and what they are."""
    net = NETS[name]
    if name == "mnist":
        return pixels(path, net)
    return table(net.n_rows, net.n_columns), "synthetic rows"
