"""What a variational model knows of the likelihood of rows."""

from typing import Any

import numpy as np
from torch import Tensor

from skae._model.model import Batch, Coded, Model
from skae._networks.latents import divergence, drawn
from skae._networks.products import padded
from skae._runtime.randomness import spread_normal


def evidence_bounds(model: Model, X: Any, beta: float, n_draws: int = 32) -> np.ndarray:
    """Surprise at each row over drawn latents, and ``beta`` times their divergence, a feature.

    The draws are the same for every row and call.
    """
    loss, network = model.cell_loss(), model.network

    def row_bounds(batch: Batch) -> Tensor:
        n, posterior = len(batch.values), network.posterior(padded(model.given(batch)))
        mean, log_variance = (half[:, :n] for half in posterior)
        total = beta * divergence(mean, log_variance)[0]
        for row in noise.to(mean):
            coded = Coded(model, batch, drawn(mean, log_variance, row))
            given = coded.cell_losses, batch.observed, network.dispersion[0]
            total += loss.surprises(*given) / n_draws
        return coded.judged((total[:, None] / coded.n_observed)[:, 0])

    noise = spread_normal(n_draws, network.spec.n_latents)
    return model.map(X, row_bounds).astype(np.float64)
