"""How far rows lie from the nearest row of the fit, in the space that the network sees.

Nothing but the data speaks here: what the networks rebuild well and the latents hold close together
is far out all the same where no row was (Ramaswamy et al., "Efficient algorithms for mining
outliers from large data sets", 2000). An outlier among the rows would vouch for its like, so only
rows that other views find usual are compared with, or all of them where all are known to be clean.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from skae._anomaly.distances import Distances, Member, View, in_deviations
from skae._anomaly.draws import draw
from skae._runtime.tuning import NEIGHBOR_ROWS


class Neighbors(NamedTuple):
    """Rows that others are compared with.

    Attributes
    ----------
    rows : Member
        Of one view, which holds the calibration.
    clean : bool
        Whether these are from all rows of the fit.
    """

    rows: Member
    clean: bool

    @classmethod
    def of(
        cls, rows: Tensor, weights: Tensor, order: Tensor, clean: bool
    ) -> tuple["Neighbors", Tensor]:
        """Some of the rows (n, d), drawn by weight.

        And how far each row lies from the nearest other one, in robust deviations, (n,).

        Parameters
        ----------
        rows : Tensor of shape (n, d)
        weights : Tensor of shape (n,)
            Zero for rows that nothing is compared with.
        order : Tensor of shape (n,)
            In which rows are drawn.
        clean : bool
        """
        few = draw(order, weights, NEIGHBOR_ROWS).unique()
        member = Member(None, rows[few][None].float().numpy(), [View("many")])
        every = torch.ones(len(rows), dtype=torch.bool)
        distances = Distances([member], member.views)(rows[None], every)
        neighbors = cls(member.calibrated(distances, weights), clean)
        return neighbors, neighbors.deviations(distances)

    def distances(self) -> Distances:
        """What takes the distances, with all that depends on the fit alone computed."""
        return Distances([self.rows], self.rows.views)

    def deviations(self, distances: Tensor) -> Tensor:
        """Robust deviations from the median of distances (1, n), as (n,)."""
        return in_deviations(distances[0], *self.rows.views[0][-3:])
