"""Every loss, per element: its value, its slope and the link of its outputs.

Each loss is defined once, here. Training adds up ``value`` and sends
``scale * slope`` backwards; scores use only ``value``. The caller multiplies
both by sample weights, and by zero for missing cells.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from skae._data.categories import Categories

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
    weights : Tensor of shape (n_units,) or None
        What the cross-entropy of categories at the end of the rows was multiplied by.
    of_far : callable or None
        ``of_far(far, target)``: the loss of each element if all outputs were ``far`` off; None
        where that is the mean of the losses on both sides.
    """

    value: Callable[[Tensor, Tensor], Tensor]
    slope: Callable[[Tensor, Tensor, Tensor], object]
    scale: float = 1.0
    link: Callable[[Tensor], Tensor] = lambda output: output
    power: float | None = None
    weights: Tensor | None = None
    of_far: Callable[[Tensor, Tensor], Tensor] | None = None

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

    def surprises(self, values: Tensor, observed: Tensor | None, dispersion: Tensor) -> Tensor:
        """Minus the log of the density of rows, (...,), whose cells have these losses.

        Of categories it is the cross-entropy as it is.
        """
        n = self.n_numbers(values)
        n_cells = n if observed is None else observed[..., :n].sum(-1)
        total = self.surprise(values[..., :n].sum(-1), n_cells, dispersion)
        if self.weights is None:
            return total
        return total + values[..., n:] @ _inverse(self.weights)

    def n_numbers(self, values: Tensor) -> int:
        """How many of the last axis are no units of categories."""
        return values.shape[-1] - (0 if self.weights is None else len(self.weights))

    def to_surprise(self, slope: Tensor, dispersion: Tensor) -> None:
        """Make a slope of losses (K, n, width) the dispersion times that of the surprise."""
        if self.weights is not None:
            own = dispersion[..., None] * _inverse(self.weights)
            slope[..., self.n_numbers(slope) :].mul_(own)

    def of_outputs_off(self, far: Tensor, target: Tensor) -> Tensor:
        """The loss of each element if all outputs were ``far`` off, on either side."""
        if self.of_far is not None:
            return self.of_far(far, target)
        # The loss of logits grows on one side alone.
        return 0.5 * (self.value(target + far, target) + self.value(target - far, target))


def _inverse(weights: Tensor) -> Tensor:
    # A category of one value has no weight, and no loss.
    return torch.where(weights > 0, 1.0 / weights, 0.0)


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


# Logits of categories are cut off here, so that no exponential overflows.
_LARGEST_LOGIT = 30.0


class _WithCategories:
    """A loss of numbers, and the cross-entropy of the categories that follow them.

    The outputs for a category are logits of its values. All of its loss is in the unit of the
    value that is there.
    """

    def __init__(self, numbers: Loss, categories: Categories):
        self._numbers, self._categories = numbers, categories
        self._n = -sum(categories.sizes)
        self._members, self._weights = categories.members, categories.weights

    def loss(self) -> Loss:
        power, scale = self._numbers.power, self._numbers.scale
        return Loss(self.value, self.slope, scale, self.link, power, self._weights, self.of_far)

    def value(self, output: Tensor, target: Tensor) -> Tensor:
        numbers = self._numbers.value(output[..., : self._n], target[..., : self._n])
        surprise = -self._probabilities(output).log() * self._present(target)
        return torch.cat([numbers, surprise * self._weights], -1)

    def slope(self, output: Tensor, target: Tensor, out: Tensor) -> None:
        n = self._n
        self._numbers.slope(output[..., :n], target[..., :n], out[..., :n])
        difference = self._probabilities(output) - self._present(target)
        out[..., n:] = difference * (self._weights / self._numbers.scale)

    def link(self, output: Tensor) -> Tensor:
        centered = self._probabilities(output) - self._categories.center
        numbers = self._numbers.link(output[..., : self._n])
        return torch.cat([numbers, centered / self._categories.scale], -1)

    def of_far(self, far: Tensor, target: Tensor) -> Tensor:
        n = self._n
        numbers = self._numbers.of_outputs_off(far[..., :n], target[..., :n])
        # Another value was taken for certain: it was that many logits ahead.
        surprise = far[..., n:] * self._present(target) * self._weights
        return torch.cat([numbers, surprise], -1)

    def _probabilities(self, output: Tensor) -> Tensor:
        """Of each value, (..., n_units)."""
        logits = output[..., self._n :].to(self._weights.dtype)
        powers = logits.clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT).exp_()
        return powers / (powers @ self._members @ self._members.T)

    def _present(self, target: Tensor) -> Tensor:
        """Ones for the value that is there, zeros for the others, (..., n_units)."""
        return target[..., self._n :] * self._categories.scale + self._categories.center


def loss_of(name: str, categories: Categories | None) -> Loss:
    """The loss of that name, of rows that may have categories at their end."""
    numbers = LOSSES[name]
    return numbers if categories is None else _WithCategories(numbers, categories).loss()
