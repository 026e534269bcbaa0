"""The mean loss of a row as its score, with the methods of the scorers that are fitted."""

from torch import Tensor

from skae._model.model import Coded


class LossScorer:
    """Scores rows by their losses, of which there is nothing to learn."""

    def outlyingness(self, coded: Coded) -> Tensor:
        """Mean losses, (n,)."""
        return coded.losses

    def contributions(self, coded: Coded) -> Tensor:
        """What each cell adds to them, (n, n_features)."""
        return coded.shares

    def prepare(self) -> None:
        """Nothing depends on the fit alone."""
