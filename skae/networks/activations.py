"""Activations with their backward passes, in place or into given memory."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_aten = torch.ops.aten


@dataclass(frozen=True)
class Activation:
    """One elementwise function.

    Attributes
    ----------
    forward : callable
        ``forward(z, out)``; ``out`` may be ``z`` where the gradient is not needed.
    backward : callable
        ``backward(gradient, saved)``: multiplies ``gradient`` by the derivative, in place.
    saves_input : bool
        Whether ``backward`` reads the input ``z`` (else the output).
    module : type
        The ``nn.Module`` that does the same.
    """

    forward: Callable[[Tensor, Tensor], object]
    backward: Callable[[Tensor, Tensor], object]
    saves_input: bool
    module: Callable[[], nn.Module]


ACTIVATIONS = {
    "relu": Activation(
        lambda z, out: torch.clamp_min(z, 0, out=out),
        lambda g, a: _aten.threshold_backward.grad_input(g, a, 0, grad_input=g),
        False,
        nn.ReLU,
    ),
    "tanh": Activation(
        lambda z, out: torch.tanh(z, out=out),
        lambda g, a: _aten.tanh_backward.grad_input(g, a, grad_input=g),
        False,
        nn.Tanh,
    ),
    "logistic": Activation(
        lambda z, out: torch.sigmoid(z, out=out),
        lambda g, a: _aten.sigmoid_backward.grad_input(g, a, grad_input=g),
        False,
        nn.Sigmoid,
    ),
    "elu": Activation(
        lambda z, out: _aten.elu.out(z, out=out),
        lambda g, a: _aten.elu_backward.grad_input(g, 1.0, 1.0, 1.0, True, a, grad_input=g),
        False,
        nn.ELU,
    ),
    "gelu": Activation(
        lambda z, out: _aten.gelu.out(z, out=out),
        lambda g, z: _aten.gelu_backward.grad_input(g, z, grad_input=g),
        True,
        nn.GELU,
    ),
    "silu": Activation(
        lambda z, out: _aten.silu.out(z, out=out),
        lambda g, z: _aten.silu_backward.grad_input(g, z, grad_input=g),
        True,
        nn.SiLU,
    ),
}
