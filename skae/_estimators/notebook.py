"""What a notebook shows of a fitted estimator below its parameters: layers and losses."""

from collections.abc import Iterator
from html import escape
from typing import Any

import numpy as np
from torch import nn

# Of the picture of the losses, in pixels.
_WIDTH, _HEIGHT = 240, 60


class FittedHTMLMixin:
    """Shows the fitted networks where scikit-learn shows an estimator; not for use by itself."""

    def _repr_html_inner(self) -> str:
        return super()._repr_html_inner() + self._fitted_html()  # type: ignore[misc]

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        shown = super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]
        if "text/html" in shown:
            shown["text/html"] += self._fitted_html()
        return shown

    def _fitted_html(self) -> str:
        return fitted_html(self) if self.__sklearn_is_fitted__() else ""  # type: ignore[attr-defined]


def fitted_html(estimator: Any) -> str:
    """Layers, numbers of parameters, and losses of a fitted estimator."""
    parts = {"encoder": estimator.encoder_, "decoder": estimator.decoder_}
    lines = "".join(
        f"<tr><td>{escape(name)}</td><td style='text-align:left'><code>{escape(layer)}</code></td>"
        f"<td>{count:,}</td></tr>"
        for name, module in parts.items()
        for layer, count in _layers(module)
    )
    n_networks = getattr(estimator, "n_estimators_", 1)
    several = f"{n_networks} networks of {estimator.n_components_} latents, one shown"
    one = f"{estimator.n_components_} latents"
    title = (
        f"Fitted: {several if n_networks > 1 else one}, {estimator.n_iter_} epochs, "
        f"loss {estimator.best_loss_:.4g}"
    )
    return (
        f"<details><summary>{escape(title)}</summary>"
        f"<table><tr><th></th><th>layer</th><th>parameters</th></tr>{lines}</table>"
        f"{_curves(estimator.loss_curve_, estimator.validation_loss_curve_)}</details>"
    )


def _layers(module: nn.Module) -> Iterator[tuple[str, int]]:
    """Each layer as text, with the number of its parameters; what is beside layers below these."""
    children = list(module.children())
    for child in children:
        yield from _layers(child)
    own = [v.numel() for v in (*module.parameters(False), *module.buffers(False))]
    if not children:
        yield repr(module), sum(own)
    elif own:
        yield f"{type(module).__name__}({module.extra_repr()})", sum(own)


def _curves(losses: list[float], held_out: list[float] | None) -> str:
    """The losses by epoch as a picture in the text; dashed those of rows that were held out."""
    curves = [np.array(curve) for curve in (losses, held_out) if curve is not None]
    low, high = min(map(np.min, curves)), max(map(np.max, curves))
    drawn = ""
    for curve, dashes in zip(curves, ("", " stroke-dasharray='4 3'"), strict=False):
        x = np.linspace(2, _WIDTH - 2, len(curve))
        y = 2 + (_HEIGHT - 4) * (high - curve) / ((high - low) or 1.0)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        drawn += f"<polyline points='{points}' fill='none' stroke='currentColor'{dashes} />"
    label = f"loss by epoch, from {losses[0]:.4g} to {losses[-1]:.4g}"
    return (
        f"<svg width='{_WIDTH}' height='{_HEIGHT}' role='img' aria-label='{label}'>{drawn}</svg>"
        f"<div>{label}{'' if held_out is None else '; dashed: rows held out'}</div>"
    )
