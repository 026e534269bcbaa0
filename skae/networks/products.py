"""Matrix products of stacked layers, by the fastest library for their size.

torch sends float32 products on a CPU to MKL, which runs at half speed on
processors of another maker. oneDNN, also inside torch, does not, but is
reached in float32 only by an operator without a stable name. So: oneDNN where
it is there and the product is large enough to pay for its output copy, ATen's
batched product everywhere else. ``examples/benchmarks/products.py`` measures both.
"""

import torch
from torch import Tensor

# Multiplications in one product from which oneDNN was faster in every layout tried.
_LARGE = 1 << 22


def _onednn_linear():
    try:
        linear = torch.ops.mkldnn._linear_pointwise.default
        probe = torch.ones(2, 3, dtype=torch.float32)
        result = linear(probe, probe, None, "none", [], "")
    except (AttributeError, RuntimeError, NotImplementedError):
        return None
    return linear if torch.equal(result, torch.full((2, 2), 3.0)) else None


_LINEAR = _onednn_linear()


def _is_large(x: Tensor, n_out: int, n_rows: int | None = None) -> bool:
    return (
        _LINEAR is not None
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and (n_rows or x.shape[1]) * x.shape[2] * n_out >= _LARGE
    )


def product(
    bias: Tensor, x: Tensor, weight: Tensor, out: Tensor, n_rows: int | None = None
) -> None:
    """``out = x @ weight.T + bias`` for (K, n, in), (K, out, in) and (K, 1, out).

    The library is chosen for ``n_rows`` rows, where given, so that it does not
    depend on the batch.
    """
    if _is_large(x, weight.shape[1], n_rows):
        for o, a, w, b in zip(out, x, weight, bias, strict=True):
            o.copy_(_LINEAR(a, w, b[0], "none", [], ""))
    else:
        torch.baddbmm(bias, x, weight.mT, out=out)


def input_gradient(gradient: Tensor, weight: Tensor, out: Tensor) -> None:
    """``out = gradient @ weight`` for (K, n, out) and (K, out, in)."""
    if _is_large(gradient, weight.shape[2]):
        for o, g, w in zip(out, gradient, weight, strict=True):
            o.copy_(_LINEAR(g, w.t(), None, "none", [], ""))
    else:
        torch.bmm(gradient, weight, out=out)


def weight_gradient(gradient: Tensor, x: Tensor, out: Tensor) -> None:
    """``out = gradient.T @ x`` for (K, n, out) and (K, n, in)."""
    if _is_large(gradient, x.shape[2]):
        for o, g, a in zip(out, gradient, x, strict=True):
            o.copy_(_LINEAR(g.t(), a.t(), None, "none", [], ""))
    else:
        torch.bmm(gradient.mT, x, out=out)
