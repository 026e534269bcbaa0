"""Every loss, per element: its value, its slope and the link of its outputs.

Each loss is defined once, here. Training adds up ``value`` and sends
``scale * slope`` backwards; scores use only ``value``. The caller multiplies
both by sample weights, and by zero for missing cells.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_aten = torch.ops.aten
_PER_ELEMENT = 0  # ATen's code for reduction="none"

# Smaller squared errors are rounding errors of float32.
_LEAST_DISPERSION = 1e-12


@dataclass(frozen=True)
class Loss:
    """One loss over network outputs and targets of equal shape.

    Attributes
    ----------
    value : callable
        ``value(output, target)``: the loss of each element.
    slope : callable
        ``slope(output, target, out)``: writes the derivative by ``output``,
        divided by ``scale``, into ``out``.
    scale : float
        Constant factor of the slope, left out so that it costs no pass of its own.
    link : callable
        Maps network outputs to values on the scale of the targets.
    power : float or None
        A small error enters the loss to this power; None if the loss is a log-likelihood.
    """

    value: Callable[[Tensor, Tensor], Tensor]
    slope: Callable[[Tensor, Tensor, Tensor], object]
    scale: float = 1.0
    link: Callable[[Tensor], Tensor] = lambda output: output
    power: float | None = None

    def dispersion(self, mean: Tensor) -> Tensor:
        """The ``d`` that makes the ``mean`` loss likeliest, for densities as ``exp(-loss / d)``."""
        if self.power is None:
            return torch.ones_like(mean)
        return (self.power * mean).clamp(min=_LEAST_DISPERSION)

    def surprise(self, total: Tensor, n_cells: Tensor | float, dispersion: Tensor) -> Tensor:
        """Minus the log of this density for cells of a ``total`` loss, up to a constant."""
        if self.power is None:
            return total
        return total / dispersion + n_cells * dispersion.log() / self.power


def _difference(output: Tensor, target: Tensor, out: Tensor) -> None:
    torch.sub(output, target, out=out)


def _sign(output: Tensor, target: Tensor, out: Tensor) -> None:
    torch.sub(output, target, out=out).sign_()


def _clipped(output: Tensor, target: Tensor, out: Tensor) -> None:
    torch.sub(output, target, out=out).clamp_(-1.0, 1.0)


def _logistic_difference(output: Tensor, target: Tensor, out: Tensor) -> None:
    torch.sigmoid(output, out=out).sub_(target)


LOSSES = {
    "squared_error": Loss(
        lambda output, target: _aten.mse_loss(output, target, _PER_ELEMENT),
        _difference,
        scale=2.0,
        power=2.0,
    ),
    "absolute_error": Loss(
        lambda output, target: (output - target).abs_(),
        _sign,
        power=1.0,
    ),
    # Quadratic up to one unit of the scaled data, linear beyond (Huber 1964).
    "huber": Loss(
        lambda output, target: _aten.huber_loss(output, target, _PER_ELEMENT),
        _clipped,
        power=2.0,
    ),
    # Cross-entropy of targets in [0, 1]; the network's outputs are logits.
    "log_loss": Loss(
        lambda output, target: _aten.binary_cross_entropy_with_logits(
            output, target, None, None, _PER_ELEMENT
        ),
        _logistic_difference,
        link=torch.sigmoid,
    ),
}
