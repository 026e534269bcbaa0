"""Optimizers over one flat vector.

Where all members share their rates, torch's fused kernels make the update. The
same formulas, written out, make it where rates differ or where the kernels (not
part of torch's stable interface) are missing.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from skae._runtime.device import has_fused_optimizers
from skae._runtime.tuning import ADAM_BETAS, SGD_MOMENTUM

_EPSILON = 1e-8

# A rate for all parameters, or one for each of them.
Rate = float | Tensor

# The number of an update, or a tensor of it.
Count = int | Tensor


def _adam(p: Tensor, g: Tensor, m: dict[str, Tensor], step: Count, rate: Rate, decay: Rate) -> None:
    """Kingma and Ba 2015; weight decay is added to the gradient."""
    if isinstance(decay, Tensor) or decay:
        g = g + decay * p
    m["first"].lerp_(g, 1 - ADAM_BETAS[0])
    m["second"].lerp_(g * g, 1 - ADAM_BETAS[1])
    root = (m["second"] / (1 - ADAM_BETAS[1] ** step)).sqrt_().add_(_EPSILON)
    p.sub_(m["first"] / root * (rate / (1 - ADAM_BETAS[0] ** step)))


def _adamw(
    p: Tensor, g: Tensor, m: dict[str, Tensor], step: Count, rate: Rate, decay: Rate
) -> None:
    """Loshchilov and Hutter 2019; weight decay acts on the weights."""
    p.mul_(1 - rate * decay)
    _adam(p, g, m, step, rate, 0.0)


def _sgd(p: Tensor, g: Tensor, m: dict[str, Tensor], step: Count, rate: Rate, decay: Rate) -> None:
    """Nesterov momentum, as in Sutskever et al. 2013."""
    if isinstance(decay, Tensor) or decay:
        g = g + decay * p
    m["first"].mul_(SGD_MOMENTUM).add_(g)
    p.sub_((g + SGD_MOMENTUM * m["first"]) * rate)


def _fused_adam(kernel: str) -> Callable[..., None] | None:
    fused = getattr(torch, kernel, None)
    if fused is None:
        return None

    def step_(
        p: Tensor, g: Tensor, m: dict[str, Tensor], step: Count, rate: Rate, decay: float
    ) -> None:
        if isinstance(rate, Tensor):
            rate = rate.float()  # The only kind of tensor that a kernel reads it from.
        fused(
            [p], [g], [m["first"]], [m["second"]], [], [m["count"].fill_(step)],
            lr=rate, beta1=ADAM_BETAS[0], beta2=ADAM_BETAS[1], weight_decay=decay, eps=_EPSILON,
            amsgrad=False, maximize=False,
        )  # fmt: skip
        increment_version(p)  # The kernel does not tell that it has changed the weights.

    return step_


_FORMULAS: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "adam": (_adam, ("first", "second")),
    "adamw": (_adamw, ("first", "second")),
    "sgd": (_sgd, ("first",)),
}
_FUSED = {"adam": _fused_adam("_fused_adam_"), "adamw": _fused_adam("_fused_adamw_"), "sgd": None}

OPTIMIZERS = tuple(_FORMULAS)


class Optimizer:
    """One optimizer over the flat parameters of a network.

    Parameters
    ----------
    name : str
        One of ``OPTIMIZERS``.
    parameters, gradients : Tensor of shape (n,)
    moments : dict of Tensor
        Moments to continue from; empty to start from zero. Updated in place.
    rates, decays : float or Tensor of shape (n,)
        Learning rate and weight decay. Decay acts on the first ``n_decayed`` parameters.
    n_decayed : int
    """

    def __init__(
        self,
        name: str,
        parameters: Tensor,
        gradients: Tensor,
        moments: dict[str, Tensor],
        rates: Rate,
        decays: Rate,
        n_decayed: int,
    ):
        formula, names = _FORMULAS[name]
        for moment in names:
            moments.setdefault(moment, torch.zeros_like(parameters))
        shared = not isinstance(rates, Tensor) and not isinstance(decays, Tensor)
        kernel = _FUSED[name] if shared and has_fused_optimizers(parameters.device) else None
        self._update = kernel or formula
        count = torch.zeros((), dtype=torch.float32, device=parameters.device)
        decayed = isinstance(decays, Tensor) or decays > 0
        bounds = [0, n_decayed, len(parameters)] if decayed else [0, len(parameters)]
        self._parts = []
        for k, part in enumerate(map(slice, bounds, bounds[1:])):
            self._parts.append(
                (
                    parameters[part],
                    gradients[part],
                    {"count": count} | {key: moments[key][part] for key in names},
                    rates[part] if isinstance(rates, Tensor) else rates,
                    (decays[part] if isinstance(decays, Tensor) else decays) if k == 0 else 0.0,
                )
            )

    def step(self, count: Count, factor: Rate) -> None:
        """Make update number ``count`` (from one), at ``factor`` times the learning rates.

        Both may be tensors without an axis, in float64, which graphs read.
        """
        for parameters, gradients, moments, rate, decay in self._parts:
            self._update(parameters, gradients, moments, count, factor * rate, decay)
