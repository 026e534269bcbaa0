"""What ``speed.py`` measures of skae alone, each in a fresh process.

``python extras.py NAME [ROUNDS]`` prints one JSON object.
"""

import json
import statistics
import sys
import time
from dataclasses import replace

import numpy as np
from nets import NETS, table

N_MEMBERS, MEMBER_EPOCHS = 16, 30


def seconds(function, *arguments) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def cold() -> dict:
    """Import, then two fits, the first of them cold."""
    X = table(NETS["small"].n_rows, NETS["small"].n_columns)

    def import_skae() -> None:
        import skae  # noqa: F401

    imported = seconds(import_skae)
    from contenders import Skae

    contender = Skae(NETS["small"])
    first, second = seconds(contender.fit, X, 0), seconds(contender.fit, X, 0)
    return {"import": imported, "first": first, "second": second}


def scaling(rounds: int) -> dict:
    """Median seconds of the large table's fit over the rows, and the slope of their logarithms."""
    from contenders import Skae

    net = NETS["large"]
    X, contender = table(net.n_rows, net.n_columns), Skae(net)
    sizes = [10_000, 30_000, 100_000, 300_000, 1_000_000]
    contender.fit(X[: sizes[0]], 0)
    times: dict[int, list[float]] = {n: [] for n in sizes}
    for seed in range(rounds):
        for n in sizes:
            repeats = max(1, 100_000 // n)
            parts = [seconds(contender.fit, X[:n], seed) for _ in range(repeats)]
            times[n].append(statistics.median(parts))
    medians = [statistics.median(times[n]) for n in sizes]
    slope = float(np.polyfit(np.log(sizes), np.log(medians), 1)[0])
    return {"seconds": list(zip(sizes, medians, strict=True)), "slope": slope}


class Members:
    """Trains 16 models, stacked or one by one, on skae's own core."""

    def __init__(self, dtype_name: str):
        import torch

        from skae._data.loaded import load_rows
        from skae._data.scale import AffineScaler

        net = NETS["small"]
        self._net, self._dtype = net, getattr(torch, dtype_name)
        self._cpu = torch.device("cpu")
        X = table(net.n_rows, net.n_columns)
        identity = AffineScaler(np.zeros(net.n_columns), np.ones(net.n_columns), "none")
        self._rows = load_rows(X, None, identity, self._dtype, self._cpu, keyed=False)

    def stacked(self) -> list:
        """Weights of each member, layer by layer, trained at once."""
        return self._train(tuple(range(N_MEMBERS)))

    def one_by_one(self) -> list:
        return [self._train((seed,))[0] for seed in range(N_MEMBERS)]

    def _train(self, seeds: tuple[int, ...]) -> list:
        from skae._networks.dense import DenseSpec
        from skae._networks.factory import initialize
        from skae._runtime.device import computing
        from skae._training.loop import train
        from skae._training.monitor import Monitor
        from skae._training.plan import TrainState

        net, plan = self._net, self._plan(seeds)
        spec = DenseSpec(net.n_columns, net.hidden, (net.latents,) * len(seeds), "relu")
        with computing(self._cpu, 0.0):
            network = initialize(spec, seeds, self._dtype, self._cpu)
        with computing(self._cpu, 3.0 * network.flops * net.batch_size):
            train(network, self._rows, plan, TrainState(), Monitor(plan, network))
        layers = network.layers
        return [[v[k].numpy() for la in layers for v in la[:2]] for k in range(len(seeds))]

    def _plan(self, seeds: tuple[int, ...]):
        from skae._training.plan import TrainingPlan

        return TrainingPlan(
            loss="squared_error",
            optimizer="adam",
            learning_rates=(1e-3,) * len(seeds),
            weight_decays=(0.0,) * len(seeds),
            lr_schedule="constant",
            batch_size=self._net.batch_size,
            max_epochs=MEMBER_EPOCHS,
            tol=0.0,
            n_iter_no_change=None,
            early_stopping=False,
            validation_fraction=0.1,
            latent_l1=0.0,
            seeds=seeds,
            product_dtype=self._dtype,
        )


def largest_difference(a: list, b: list) -> float:
    """Between the weights of two lists of models."""
    pairs = [(x, y) for m, n in zip(a, b, strict=True) for x, y in zip(m, n, strict=True)]
    return max(float(np.abs(x - y).max()) for x, y in pairs)


def members(rounds: int) -> dict:
    """Times in float32, in turn; differences between the weights in both precisions."""
    single, double = Members("float32"), Members("float64")
    differences = [largest_difference(m.stacked(), m.one_by_one()) for m in (double, single)]
    pairs = [(seconds(single.one_by_one), seconds(single.stacked)) for _ in range(rounds)]
    one_by_one, stacked = (statistics.median(times) for times in zip(*pairs, strict=True))
    net = NETS["small"]
    steps = N_MEMBERS * MEMBER_EPOCHS * -(-net.n_rows // net.batch_size)
    return {
        "one by one": one_by_one,
        "stacked": stacked,
        "one by one us": 1e6 * one_by_one / steps,
        "stacked us": 1e6 * stacked / steps,
        "ratio": statistics.median(a / b for a, b in pairs),
        "difference": differences[0],
        "difference 32": differences[1],
    }


def scoring(rounds: int) -> dict:
    """Rows a second of the large table's net, on one thread."""
    from contenders import Skae, limit_threads

    net = NETS["large"]
    X, contender = table(net.n_rows, net.n_columns), Skae(replace(net, epochs=1))
    limit_threads(1)
    contender.fit(X[:10_000], 0)
    contender.score(X)
    return {"rate": len(X) / statistics.median(seconds(contender.score, X) for _ in range(rounds))}


if __name__ == "__main__":
    measured = {"cold": cold, "scaling": scaling, "members": members, "scoring": scoring}
    print(json.dumps(measured[sys.argv[1]](*map(int, sys.argv[2:]))))
