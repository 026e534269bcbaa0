"""Activations and their backward passes, as operations bound to their tensors."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

_aten = torch.ops.aten


@dataclass(frozen=True)
class Activation:
    """One elementwise function.

    Attributes
    ----------
    forward : callable
        ``forward(z, out)`` returns the operation that writes ``out``, which may be
        ``z`` itself unless ``backward`` needs ``z``.
    backward : callable
        ``backward(gradient, saved)`` returns the operation that multiplies
        ``gradient`` by the derivative, in place.
    saves_input : bool
        Whether ``saved`` is the input ``z``, rather than the output.
    module : type
        The equivalent ``nn.Module``.
    """

    forward: Callable[[Tensor, Tensor], Callable[[], object]]
    backward: Callable[[Tensor, Tensor], Callable[[], object]]
    saves_input: bool
    module: Callable[[], nn.Module]


ACTIVATIONS = {
    "relu": Activation(
        lambda z, out: partial(torch.clamp_min, z, 0, out=out),
        lambda g, a: partial(_aten.threshold_backward.grad_input, g, a, 0, grad_input=g),
        False,
        nn.ReLU,
    ),
    "tanh": Activation(
        lambda z, out: partial(torch.tanh, z, out=out),
        lambda g, a: partial(_aten.tanh_backward.grad_input, g, a, grad_input=g),
        False,
        nn.Tanh,
    ),
    "logistic": Activation(
        lambda z, out: partial(torch.sigmoid, z, out=out),
        lambda g, a: partial(_aten.sigmoid_backward.grad_input, g, a, grad_input=g),
        False,
        nn.Sigmoid,
    ),
    "elu": Activation(
        lambda z, out: partial(_aten.elu.out, z, out=out),
        lambda g, a: partial(
            _aten.elu_backward.grad_input, g, 1.0, 1.0, 1.0, True, a, grad_input=g
        ),
        False,
        nn.ELU,
    ),
    "gelu": Activation(
        lambda z, out: partial(_aten.gelu.out, z, out=out),
        lambda g, z: partial(_aten.gelu_backward.grad_input, g, z, grad_input=g),
        True,
        nn.GELU,
    ),
    "silu": Activation(
        lambda z, out: partial(_aten.silu.out, z, out=out),
        lambda g, z: partial(_aten.silu_backward.grad_input, g, z, grad_input=g),
        True,
        nn.SiLU,
    ),
}
