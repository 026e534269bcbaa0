"""One contender of ``speed.py`` in a process of its own.

``python contenders.py NAME NET ROWS.npy`` reads commands, one JSON object a
line, and answers each with a line. All train the same layers with Adam at a
constant 1e-3 in float32 on shuffled batches. The latent layer is linear, except
in MLPRegressor and PyOD, which apply the activation to every inner layer.
"""

import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from nets import NETS, Net

WARM_UP_BATCHES = 20
SCORED_ROWS = 200_000


class Skae:
    """``AutoencoderTransformer``."""

    chooses_threads = True

    def __init__(self, net: Net):
        from skae import AutoencoderTransformer

        self._make, self._net = AutoencoderTransformer, net

    def fit(self, X: np.ndarray, seed: int) -> None:
        net = self._net
        self._model = self._make(
            hidden_layer_sizes=net.hidden,
            n_components=net.latents,
            activation="relu",
            optimizer="adam",
            learning_rate=1e-3,
            lr_schedule="constant",
            batch_size=net.batch_size,
            max_epochs=net.epochs,
            tol=0,
            n_iter_no_change=None,
            early_stopping=False,
            precision="float32",
            scaling=net.scaling,
            random_state=seed,
            device="cpu",
        ).fit(X)

    def reconstruct(self, X: np.ndarray) -> np.ndarray:
        return self._model.reconstruct(X)

    def score(self, X: np.ndarray) -> np.ndarray:
        return -self._model.score_samples(X)


class Mlp:
    """scikit-learn's ``MLPRegressor(X, X)``."""

    def __init__(self, net: Net):
        from sklearn.neural_network import MLPRegressor

        self._make, self._net = MLPRegressor, net

    def fit(self, X: np.ndarray, seed: int) -> None:
        net = self._net
        self._model = self._make(
            hidden_layer_sizes=net.widths[1:-1],
            activation="relu",
            solver="adam",
            alpha=0.0,
            batch_size=net.batch_size,
            learning_rate_init=1e-3,
            max_iter=net.epochs,
            tol=0.0,
            n_iter_no_change=net.epochs + 1,
            random_state=seed,
        ).fit(X, X)

    def reconstruct(self, X: np.ndarray) -> np.ndarray:
        return self._model.predict(X)

    def score(self, X: np.ndarray) -> np.ndarray:
        return _row_errors(self.reconstruct(X), X)


class Pyod:
    """PyOD's ``AutoEncoder``, without batch normalization and dropout."""

    def __init__(self, net: Net):
        import torch
        from pyod.models.auto_encoder import AutoEncoder

        self._make, self._net, self._torch = AutoEncoder, net, torch

    def fit(self, X: np.ndarray, seed: int) -> None:
        net = self._net
        self._model = self._make(
            hidden_neuron_list=[*net.hidden, net.latents],
            batch_norm=False,
            dropout_rate=0.0,
            lr=1e-3,
            epoch_num=net.epochs,
            batch_size=net.batch_size,
            optimizer_params={},
            preprocessing=net.scaling is not None,
            random_state=seed,
            device="cpu",
            verbose=0,
        ).fit(X)

    def reconstruct(self, X: np.ndarray) -> np.ndarray:
        mean, std = self._model.X_mean, self._model.X_std
        scaled = X if mean is None else (X - mean) / std
        with self._torch.inference_mode():
            values = self._model.model(self._torch.from_numpy(scaled)).numpy()
        return values if mean is None else values * std + mean

    def score(self, X: np.ndarray) -> np.ndarray:
        return self._model.decision_function(X)


class Skorch:
    """skorch's ``NeuralNet`` over the same torch module."""

    def __init__(self, net: Net):
        import skorch
        import torch

        self._make, self._net, self._torch = skorch.NeuralNet, net, torch

    def fit(self, X: np.ndarray, seed: int) -> None:
        net, torch = self._net, self._torch
        torch.manual_seed(seed)
        self._model = self._make(
            _torch_module(net),
            criterion=torch.nn.MSELoss,
            optimizer=torch.optim.Adam,
            lr=1e-3,
            max_epochs=net.epochs,
            batch_size=net.batch_size,
            iterator_train__shuffle=True,
            train_split=None,
            verbose=0,
            device="cpu",
        ).fit(X, X)

    def reconstruct(self, X: np.ndarray) -> np.ndarray:
        return self._model.predict(X)

    def score(self, X: np.ndarray) -> np.ndarray:
        return _row_errors(self.reconstruct(X), X)


class Keras:
    """Keras on its torch backend."""

    def __init__(self, net: Net):
        import os

        os.environ["KERAS_BACKEND"] = "torch"
        import keras

        self._keras, self._net = keras, net

    def fit(self, X: np.ndarray, seed: int) -> None:
        keras, net = self._keras, self._net
        keras.utils.set_random_seed(seed)
        linear = {len(net.hidden), len(net.widths) - 2}
        model = keras.Sequential([keras.Input((net.n_columns,))])
        for i, width in enumerate(net.widths[1:]):
            model.add(keras.layers.Dense(width, activation=None if i in linear else "relu"))
        model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="mse")
        model.fit(X, X, epochs=net.epochs, batch_size=net.batch_size, shuffle=True, verbose=0)
        self._model = model

    def reconstruct(self, X: np.ndarray) -> np.ndarray:
        return self._model.predict(X, batch_size=max(1024, self._net.batch_size), verbose=0)

    def score(self, X: np.ndarray) -> np.ndarray:
        return _row_errors(self.reconstruct(X), X)


class Loader:
    """A plain autograd loop over ``DataLoader(TensorDataset)``."""

    def __init__(self, net: Net):
        import torch

        self._torch, self._net = torch, net

    def fit(self, X: np.ndarray, seed: int) -> None:
        torch = self._torch
        torch.manual_seed(seed)
        module = _torch_module(self._net)
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
        criterion = torch.nn.MSELoss()
        batches = self._batches(X, shuffle=True)
        for _ in range(self._net.epochs):
            for (rows,) in batches:
                optimizer.zero_grad()
                criterion(module(rows), rows).backward()
                optimizer.step()
        self._model = module

    def reconstruct(self, X: np.ndarray) -> np.ndarray:
        with self._torch.inference_mode():
            parts = [self._model(rows).numpy() for (rows,) in self._batches(X, shuffle=False)]
        return np.concatenate(parts)

    def score(self, X: np.ndarray) -> np.ndarray:
        with self._torch.inference_mode():
            batches = self._batches(X, shuffle=False)
            parts = [((self._model(rows) - rows) ** 2).mean(1).numpy() for (rows,) in batches]
        return np.concatenate(parts)

    def _batches(self, X: np.ndarray, shuffle: bool):
        data = self._torch.utils.data
        rows = data.TensorDataset(self._torch.from_numpy(X))
        return data.DataLoader(rows, batch_size=self._net.batch_size, shuffle=shuffle)


CONTENDERS: dict[str, Callable[[Net], object]] = {
    "skae": Skae,
    "MLPRegressor": Mlp,
    "DataLoader": Loader,
    "skorch": Skorch,
    "PyOD": Pyod,
    "Keras": Keras,
}


def _torch_module(net: Net):
    """Linear layers with ReLU between them; the latents and the output are linear."""
    from torch import nn

    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(zip(net.widths, net.widths[1:], strict=False)):
        layers.append(nn.Linear(n_in, n_out))
        if i not in (len(net.hidden), len(net.widths) - 2):
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def _row_errors(reconstruction: np.ndarray, X: np.ndarray) -> np.ndarray:
    return np.square(reconstruction - X).mean(axis=1)


def mean_squared_error(reconstruct: Callable[[np.ndarray], np.ndarray], X: np.ndarray) -> float:
    """Of the reconstruction, in the data's own units: one measure for all contenders."""
    parts = np.array_split(X, max(1, len(X) // 50_000))
    return float(sum(np.square(reconstruct(p) - p).sum(dtype=np.float64) for p in parts) / X.size)


def peak_megabytes() -> float:
    """Peak resident memory of this process."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss may be the parent's, taken over at exec
        line = next(s for s in status.read_text().splitlines() if s.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024**2 if sys.platform == "darwin" else peak / 1024


def limit_threads(threads: int) -> None:
    """One setting for torch and for the BLAS and OpenMP of NumPy and scikit-learn."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


class Worker:
    """Fits and scores one contender on one net, on command."""

    def __init__(self, name: str, net: Net, path: str):
        self._X = np.load(path)
        self._contender = CONTENDERS[name](net)
        if net.threads is not None and not getattr(self._contender, "chooses_threads", False):
            limit_threads(net.threads)
        short = CONTENDERS[name](replace(net, epochs=1))
        short.fit(self._X[: WARM_UP_BATCHES * net.batch_size], seed=0)
        short.score(self._X[: net.batch_size])

    def fit(self, seed: int) -> float:
        """Seconds of a fit."""
        start = time.perf_counter()
        self._contender.fit(self._X, seed)
        return time.perf_counter() - start

    def loss(self) -> float:
        return mean_squared_error(self._contender.reconstruct, self._X)

    def rate(self) -> float:
        """Rows scored a second."""
        rows = self._X[:SCORED_ROWS]
        start = time.perf_counter()
        self._contender.score(rows)
        return len(rows) / (time.perf_counter() - start)

    def memory(self) -> float:
        return peak_megabytes()


def serve(worker: Worker, answers) -> None:
    """Answer commands until the input ends."""
    for line in sys.stdin:
        command = json.loads(line)
        value = getattr(worker, command.pop("do"))(**command)
        print(json.dumps(value), file=answers, flush=True)


def main(name: str, net: str, path: str) -> None:
    """Start a worker; answers go where standard output went, prints elsewhere."""
    warnings.simplefilter("ignore")
    answers, sys.stdout = sys.stdout, sys.stderr
    try:
        worker = Worker(name, NETS[net], path)
    except ImportError as error:
        print(json.dumps({"absent": str(error)}), file=answers, flush=True)
        return
    print(json.dumps({"ready": name}), file=answers, flush=True)
    serve(worker, answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
