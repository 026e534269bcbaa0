"""Matrix products of stacked layers, by the fastest library for their size.

torch sends float32 products on a CPU to MKL, which runs at half speed on
processors not made by Intel. oneDNN, also inside torch, runs at full speed, but
in float32 only an operator without a stable name reaches it. So products use
oneDNN where it is available and they are large enough to pay for a copy of the
output, and ATen's batched product everywhere else. Each function chooses once and
returns an operation bound to its tensors. ``examples/benchmarks/products.py``
measures both libraries.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

# Bound to its tensors; called for its effect.
Operation = Callable[[], object]

# With at least this many multiplications, oneDNN was faster in every layout tried.
_LARGE = 1 << 22

# Predictions choose how to multiply as if they had this many rows, whatever their number.
_PREDICTION_ROWS = 1024

# Outputs that kernels compute at once, in any of the dtypes.
_KERNEL_OUTPUTS = 16

# Predictions take rows in blocks of so many: with fewer, libraries choose other kernels.
ROW_BLOCK = 16


def _onednn_linear() -> Any:
    try:
        linear = torch.ops.mkldnn._linear_pointwise.default
        probe = torch.ones(2, 3, dtype=torch.float32)
        result = linear(probe, probe, None, "none", [], "")
    except (AttributeError, RuntimeError, NotImplementedError):
        return None
    return linear if torch.equal(result, torch.full((2, 2), 3.0)) else None


_LINEAR = _onednn_linear()


class Products(NamedTuple):
    """The products of a pass through dense layers.

    Called, it makes them of drawn numbers: by these the bits of a pass may depend on the number of
    threads.

    Attributes
    ----------
    shapes : tuple of (int, int)
        Outputs and inputs of each layer.
    n_members, n_rows : int
    dtype : torch.dtype
    trains : bool
        Whether with gradients.
    """

    shapes: tuple[tuple[int, int], ...]
    n_members: int
    n_rows: int
    dtype: torch.dtype
    trains: bool

    def __call__(self) -> list[Tensor]:
        rng, made = torch.Generator().manual_seed(0), []

        def drawn(n: int, width: int) -> Tensor:
            shape = self.n_members, n, width
            return torch.randn(shape, generator=rng, dtype=torch.float32).to(self.dtype)

        for n_out, n_in in self.shapes:
            x, weight, bias = drawn(self.n_rows, n_in), drawn(n_out, n_in), drawn(1, n_out)
            if not self.trains:
                made.append(RowProduct(bias, weight)(x))
                continue
            gradient = drawn(self.n_rows, n_out)
            outputs = [torch.empty_like(tensor) for tensor in (gradient, x, weight)]
            product(bias, x, weight, outputs[0])()
            input_gradient(gradient, weight, outputs[1])()
            weight_gradient(gradient, x, outputs[2])()
            made += outputs
        return made


def _is_large(x: Tensor, n_out: int, n_rows: int | None = None) -> bool:
    return (
        _LINEAR is not None
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and (n_rows or x.shape[1]) * x.shape[2] * n_out >= _LARGE
    )


def product(bias: Tensor, x: Tensor, weight: Tensor, out: Tensor) -> Operation:
    """``out = x @ weight.T + bias`` for (K, n, in), (K, out, in) and (K, 1, out)."""
    if not _is_large(x, weight.shape[1]):
        return partial(torch.baddbmm, bias, x, weight.mT, out=out)
    return _member_by_member(out, x, weight, bias[:, 0])


class RowProduct:
    """``x @ weight.T + bias``, for predictions: a row's result does not depend on the batch.

    The library is the same for any number of rows. MKL rounds by the place of a row, unless
    outputs fill its kernels, there are two inputs at least and, in float64, an even number;
    copies of the weights that do are made once.

    Parameters
    ----------
    bias : Tensor of shape (K, 1, out)
    weight : Tensor of shape (K, out, in)
    """

    def __init__(self, bias: Tensor, weight: Tensor):
        self._n_outputs = weight.shape[1]
        self._is_large = _is_large(weight, self._n_outputs, _PREDICTION_ROWS)
        missing = 0 if self._is_large else -self._n_outputs % _KERNEL_OUTPUTS
        n_inputs = weight.shape[2]
        self._odd = n_inputs % 2 if weight.dtype == torch.float64 else int(n_inputs == 1)
        if self._is_large:
            self._odd = 0
        if missing or self._odd:
            bias = functional.pad(bias, (0, missing))
            weight = functional.pad(weight, (0, self._odd, 0, missing))
        self._bias, self._weight = bias, weight

    def __call__(self, x: Tensor) -> Tensor:
        """The product (K, n, out) of rows (K, n, in)."""
        if self._is_large:
            out = x.new_empty(*x.shape[:2], self._n_outputs)
            _member_by_member(out, x, self._weight, self._bias[:, 0])()
            return out
        if self._odd:
            x = functional.pad(x, (0, self._odd))
        return by_blocks(x, self._weight.mT, self._bias)[..., : self._n_outputs].contiguous()


def padded(rows: Tensor) -> Tensor:
    """Rows of zeros added, up to a whole number of blocks; not in a graph for any number.

    So a row's result has the same bits in any batch.
    """
    missing = 0 if torch.compiler.is_exporting() else -rows.shape[-2] % ROW_BLOCK
    return functional.pad(rows, (0, 0, 0, missing)) if missing else rows


def by_blocks(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight + bias`` for (K, n, in), (K, in, out) and (K, 1, out), block by block.

    In float64, MKL chooses kernels, and so last bits, by the number of rows on some processors. So
    each product is of one block, whatever the number.
    """
    n_members, n_rows, _ = x.shape
    whole = n_rows > ROW_BLOCK and n_rows % ROW_BLOCK == 0
    if x.dtype != torch.float64 or not whole or torch.compiler.is_exporting():
        return torch.bmm(x, weight) if bias is None else torch.baddbmm(bias, x, weight)
    out = x.new_empty(n_members, n_rows, weight.shape[2])
    for k in range(n_members):
        blocks, into = (rows[k].view(-1, ROW_BLOCK, rows.shape[2]) for rows in (x, out))
        factor = weight[k].expand(len(blocks), -1, -1)
        if bias is None:
            torch.bmm(blocks, factor, out=into)
        else:
            torch.baddbmm(bias[k], blocks, factor, out=into)
    return out


def add_product(x: Tensor, weight: Tensor, out: Tensor) -> Operation:
    """``out += x @ weight.T`` for (K, n, in) and (K, out, in)."""
    if not _is_large(x, weight.shape[1]):
        return partial(out.baddbmm_, x, weight.mT)
    members = list(zip(out, x, weight, strict=True))

    def multiply() -> None:
        for o, a, w in members:
            o.add_(_LINEAR(a, w, None, "none", [], ""))

    return multiply


def input_gradient(gradient: Tensor, weight: Tensor, out: Tensor) -> Operation:
    """``out = gradient @ weight`` for (K, n, out) and (K, out, in)."""
    if not _is_large(gradient, weight.shape[2]):
        return partial(torch.bmm, gradient, weight, out=out)
    return _member_by_member(out, gradient, weight.mT)


def weight_gradient(gradient: Tensor, x: Tensor, out: Tensor) -> Operation:
    """``out = gradient.T @ x`` for (K, n, out) and (K, n, in)."""
    if not _is_large(gradient, x.shape[2]):
        return partial(torch.bmm, gradient.mT, x, out=out)
    return _member_by_member(out, gradient.mT, x.mT)


def _member_by_member(
    out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Operation:
    """``out[k] = x[k] @ weight[k].T + bias[k]`` through oneDNN."""
    biases = [None] * len(out) if bias is None else list(bias)
    members = list(zip(out, x, weight, biases, strict=True))

    def multiply() -> None:
        for o, a, w, b in members:
            o.copy_(_LINEAR(a, w, b, "none", [], ""))

    return multiply
