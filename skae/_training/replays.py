"""Steps that a device repeats by itself.

On an accelerator, the kernels of a small network take less time than Python needs to launch them.
So some steps are recorded once, as a graph of kernels, and replayed in one launch. What differs
from step to step lies on the device: how many are done, from which a batch's rows follow, the
learning rates, and the count that an optimizer asks for.
"""

import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from skae._runtime.device import Graph
from skae._training.optimizers import Optimizer

# Steps of one launch.
_STEPS = 8

# A run of fewer steps is over sooner than it is recorded.
FEWEST_STEPS = 64

# compute(index, offsets, losses, progress) writes the gradients and the losses of a batch.
Compute = Callable[[Tensor, Tensor, Tensor, float], None]

# The order, offsets and losses of the rows of a pass, each (K, m).
Pieces = tuple[Tensor, Tensor, Tensor]


class Replays:
    """The steps of one batch size.

    Parameters
    ----------
    size : int
        Rows of a batch.
    compute : callable
    optimizer : Optimizer
    parameters : Tensor
        What the optimizer moves.
    """

    def __init__(self, size: int, compute: Compute, optimizer: Optimizer, parameters: Tensor):
        self._size, self._compute, self._optimizer = size, compute, optimizer
        self._parameters = parameters
        self._pieces: Pieces | None = None
        # By whether outputs are bounded: None once a step was made, then what replays steps.
        self._graphs: dict[bool, Graph | None] = {}
        self._records = True
        device = parameters.device
        self._rows = torch.arange(size, device=device)
        # Steps of this pass, on the device and here; steps of the optimizer before this pass.
        self._done, self._known = torch.zeros(1, dtype=torch.int64, device=device), 0
        self._earlier = torch.zeros(1, dtype=torch.float64, device=device)

    def begin(self, pieces: Pieces, earlier: int, factors: list[float]) -> Pieces:
        """Begin a pass; return its pieces where graphs read and write them.

        A graph knows places in memory, so those of the first pass serve all.
        """
        rates = torch.tensor(factors, dtype=torch.float64)
        if self._pieces is None:
            self._pieces, self._factors = pieces, rates.to(self._parameters.device)
            self._batch = tuple(piece[:, : self._size].clone() for piece in pieces)
        else:
            for kept, given in zip(self._pieces[:2], pieces[:2], strict=True):
                kept.copy_(given)
            self._factors.copy_(rates)
        self._earlier.fill_(earlier)
        return self._pieces

    def advance(self, done: int, most: int, bounded: bool, progress: float) -> int:
        """Make one step or several, after ``done`` and at most ``most``; return how many."""
        if self._known != done:
            self._done.fill_(done)
        made = 1
        # The first step of its kind is not recorded: libraries set themselves up in it.
        if most >= _STEPS and bounded in self._graphs and self._recorded(bounded, progress):
            made = _STEPS
        else:
            self._graphs.setdefault(bounded, None)
            self._step(progress)
        increment_version(self._parameters)  # A graph does not tell that it has changed them.
        self._known = done + made
        return made

    def _recorded(self, bounded: bool, progress: float) -> bool:
        """Replay steps, recorded if they were not; whether that can be done."""
        graph = self._graphs[bounded]
        if graph is None and self._records:
            graph = Graph()
            try:
                graph.record(partial(self._steps, progress))
            except RuntimeError as error:
                self._records = False
                warnings.warn(
                    f"Training goes on step by step, which takes longer: steps could not be "
                    f"recorded for the device ({error}).",
                    RuntimeWarning,
                    stacklevel=2,
                )
                return False
            self._graphs[bounded] = graph
        if graph is None:
            return False
        graph.replay()
        return True

    def _steps(self, progress: float) -> None:
        for _ in range(_STEPS):
            self._step(progress)

    def _step(self, progress: float) -> None:
        """A step in operations of the device alone."""
        assert self._pieces is not None
        order, offsets, losses = self._pieces
        index, own, found = self._batch
        places = self._done * self._size + self._rows
        torch.index_select(order, 1, places, out=index)
        torch.index_select(offsets, 1, places, out=own)
        self._compute(index, own, found, progress)
        losses.index_copy_(1, places, found)
        factor = self._factors.index_select(0, self._done).squeeze(0)
        self._optimizer.step((self._earlier + self._done).squeeze(0), factor)
        self._done.add_(1)
