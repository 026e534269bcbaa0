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

# The name of a loss, or the user's own function of outputs and targets; or one of these for each
# number of a row.
Named = str | Callable[[Tensor, Tensor], Tensor]
LossKind = Named | tuple[Named, ...]

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


def _rate(output: Tensor) -> Tensor:
    return output.clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT).exp()


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
    # Half of the deviance of counts; the network's outputs are logarithms of their means.
    "poisson": Loss(
        lambda output, target: (
            _rate(output) - target * output + torch.special.xlogy(target, target) - target
        ),
        lambda output, target, out: torch.sub(_rate(output), target, out=out),
        link=lambda output: _rate(output),
        power=2.0,
    ),
}

# Losses whose outputs are on the scale of the targets.
OF_VALUES = ("squared_error", "absolute_error", "huber")


class _ByColumn:
    """Losses of columns that are not all alike."""

    def __init__(self, kinds: tuple[Named, ...]):
        places: dict[Named, list[int]] = {}
        for j, kind in enumerate(kinds):
            places.setdefault(kind, []).append(j)
        self._parts = [(_loss(kind), own) for kind, own in places.items()]

    def loss(self) -> Loss:
        powers = {loss.power for loss, _ in self._parts}
        power = powers.pop() if len(powers) == 1 else None
        return Loss(self.value, self.slope, link=self.link, power=power, of_far=self.of_far)

    def value(self, output: Tensor, target: Tensor) -> Tensor:
        return self._each(lambda loss, a, b: loss.value(a, b), output, target)

    def slope(self, output: Tensor, target: Tensor, out: Tensor) -> None:
        def own(loss: Loss, output: Tensor, target: Tensor) -> Tensor:
            slope = torch.empty_like(output)
            loss.slope(output, target, slope)
            return slope * loss.scale

        out.copy_(self._each(own, output, target))

    def link(self, output: Tensor) -> Tensor:
        return self._each(lambda loss, a: loss.link(a), output)

    def of_far(self, far: Tensor, target: Tensor) -> Tensor:
        return self._each(Loss.of_outputs_off, far, target)

    def _each(self, function: Callable[..., Tensor], *given: Tensor) -> Tensor:
        """What each loss makes of its columns, in their places."""
        found = torch.empty_like(given[0])
        for loss, own in self._parts:
            found[..., own] = function(loss, *(tensor[..., own] for tensor in given))
        return found


def _from_callable(function: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """The user's own loss, whose slope is by autograd."""

    def value(output: Tensor, target: Tensor) -> Tensor:
        found = function(output, target)
        if not isinstance(found, Tensor) or found.shape != output.shape:
            raise ValueError(
                f"loss={function!r} must return a tensor of the shape that it is given, "
                f"{tuple(output.shape)}: the loss of each element. It returned "
                f"{getattr(found, 'shape', found)!r}."
            )
        return found

    def slope(output: Tensor, target: Tensor, out: Tensor) -> None:
        with torch.enable_grad():
            own = output.detach().clone().requires_grad_()
            out.copy_(torch.autograd.grad(value(own, target).sum(), own)[0])

    # A clone, since losses are multiplied in place.
    return Loss(lambda output, target: value(output, target).clone(), slope)


# Logits of categories and logarithms are cut off here, so that no exponential overflows.
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


def loss_of(kind: LossKind, categories: Categories | None) -> Loss:
    """A loss of rows that may have categories at their end."""
    numbers = _ByColumn(kind).loss() if isinstance(kind, tuple) else _loss(kind)
    return numbers if categories is None else _WithCategories(numbers, categories).loss()


def _loss(kind: Named) -> Loss:
    return _from_callable(kind) if callable(kind) else LOSSES[kind]


def is_of_values(kind: LossKind) -> bool:
    """Whether all outputs are on the scale of the targets."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return all(own in OF_VALUES for own in kinds)


def places_of(name: str, kind: LossKind, n_numbers: int) -> list[int]:
    """The numbers of a row whose loss is that one."""
    kinds = kind if isinstance(kind, tuple) else (kind,) * n_numbers
    return [j for j, own in enumerate(kinds) if own == name]
