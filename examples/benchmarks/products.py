"""Matrix products of training steps: MKL (torch's default) against oneDNN.

    python examples/benchmarks/products.py

Prints GFLOP/s of the three products of a layer for both libraries, and whether
one thread gives the same bits as two. skae._networks.products takes oneDNN for
products of at least four million multiplications.
"""

import statistics
import time

import torch

SHAPES = [(256, 784, 512), (256, 512, 256), (256, 784, 128), (256, 128, 64), (1024, 64, 32)]
LINEAR = torch.ops.mkldnn._linear_pointwise


def operations(rows, n_in, n_out):
    """The products of a layer as (name, with MKL, with oneDNN)."""
    rng = torch.Generator().manual_seed(0)
    x, w, g = (
        torch.randn(*shape, generator=rng) for shape in ((rows, n_in), (n_out, n_in), (rows, n_out))
    )
    y, gx, gw = torch.empty(rows, n_out), torch.empty(rows, n_in), torch.empty(n_out, n_in)

    def onednn(a, b):
        return LINEAR(a, b, None, "none", [], "")

    return [
        ("forward", lambda: torch.mm(x, w.t(), out=y), lambda: y.copy_(onednn(x, w))),
        ("by input", lambda: torch.mm(g, w, out=gx), lambda: gx.copy_(onednn(g, w.t()))),
        ("by weight", lambda: torch.mm(g.t(), x, out=gw), lambda: gw.copy_(onednn(g.t(), x.t()))),
    ]


def seconds(operation, repeats=15, calls=20):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(calls):
            operation()
        times.append((time.perf_counter() - start) / calls)
    return statistics.median(times)


@torch.no_grad()
def main():
    threads = torch.get_num_threads()
    print(f"torch {torch.__version__}, {threads} threads, GFLOP/s\n")
    print("| rows x in x out | product | MKL | oneDNN | same bits on 1 and more threads |")
    print("|---|---|---|---|---|")
    for rows, n_in, n_out in SHAPES:
        for name, mkl, onednn in operations(rows, n_in, n_out):
            speeds = [2e-9 * rows * n_in * n_out / seconds(op) for op in (mkl, onednn)]
            same = []
            for operation in (mkl, onednn):
                many = operation().clone()
                torch.set_num_threads(1)
                same.append(torch.equal(many, operation()))
                torch.set_num_threads(threads)
            shape = f"{rows} x {n_in} x {n_out}"
            print(f"| {shape} | {name} | {speeds[0]:.0f} | {speeds[1]:.0f} | {same} |")


if __name__ == "__main__":
    main()
