"""The order of the training rows, and which rows are held out."""

from collections.abc import Generator
from contextlib import closing

import torch
from torch import Tensor

from skae._data.loaded import Rows
from skae._data.streamed import Blocks, StreamedRows
from skae._runtime.randomness import SPLIT_STREAM, generator, shuffled_windows
from skae._training.plan import TrainingPlan


class MemoryFeed:
    """Feeds rows that are all in memory at once.

    Attributes
    ----------
    n_train : int
        Rows per epoch and member.
    """

    def __init__(self, rows: Rows, plan: TrainingPlan):
        n_rows, self._device = len(rows), rows.device
        own = shuffled_windows(n_rows, plan.max_samples or n_rows, plan.windows)
        if plan.first_rows:
            own = own + torch.tensor(plan.first_rows)[:, None]
        self._train, self._held_out = own, None
        if plan.early_stopping:
            n = own.shape[1]
            n_held_out = _n_held_out(n, plan)
            orders = [torch.randperm(n, generator=generator(s, SPLIT_STREAM)) for s in plan.seeds]
            order = own.gather(1, torch.stack(orders))
            self._held_out = order[:, :n_held_out].sort(1).values.to(self._device)
            self._train = order[:, n_held_out:].sort(1).values
        self.n_train = self._train.shape[1]

    def epoch(self, generators: list[torch.Generator]) -> Generator[Tensor]:
        """Indices (K, m) of shuffled rows, each valid only until the next are asked for."""
        yield _shuffled(self._train, generators).to(self._device)

    def held_out(self) -> Generator[Tensor]:
        """Indices (K, m) of the rows that are held out, if there are any."""
        if self._held_out is not None:
            yield self._held_out


class BlockFeed:
    """Feeds streamed rows in windows of shuffled blocks, and holds out whole blocks."""

    def __init__(self, rows: StreamedRows, plan: TrainingPlan):
        assert plan.block_length is not None
        n_rows = len(rows)
        self._rows, self._batch_size = rows, plan.batch_size
        self._blocks = Blocks(n_rows, plan.block_length, plan.max_samples or n_rows, plan.windows)
        n = len(self._blocks)
        order = torch.randperm(n, generator=generator(plan.seeds[0], SPLIT_STREAM))
        n_held_out = _n_held_out(n, plan) if plan.early_stopping else 0
        self._held_out, self._train = order[:n_held_out], order[n_held_out:].sort().values
        self.n_train = int(self._blocks.counts(self._train).sum())
        if self.n_train == 0:
            raise ValueError(
                f"max_samples={plan.max_samples} rows were all held out. Pass more, or "
                f"early_stopping=False."
            )

    def epoch(self, generators: list[torch.Generator]) -> Generator[Tensor]:
        """Like :meth:`MemoryFeed.epoch`; all indices but the last ones fill whole batches."""
        blocks = self._train[torch.randperm(len(self._train), generator=generators[0])]
        n_left, carried = self.n_train, torch.empty(len(generators), 0, dtype=torch.int64)
        with closing(self._rows.windows(blocks)) as windows:
            for window in windows:
                own = self._blocks.own(window) + self._rows.n_carried
                order = _shuffled(torch.cat([carried, own], 1), generators)
                order, ready = order.to(self._rows.device), self._n_ready(order.shape[1], n_left)
                if ready:
                    yield order[:, :ready]
                n_left -= ready
                self._rows.carry(order[:, ready:].flatten())
                carried = torch.arange(order[:, ready:].numel()).view(len(order), -1)

    def _n_ready(self, n: int, n_left: int) -> int:
        """How many of a window's rows to train on now: all at the end, else whole batches.

        Up to one batch and a row are left for the next window.
        """
        if n == n_left:
            return n
        ready = n - n % self._batch_size
        # A single row at the end of the epoch would have no batch to join.
        return max(0, ready - self._batch_size) if n_left - ready == 1 else ready

    def held_out(self) -> Generator[Tensor]:
        """Like :meth:`MemoryFeed.held_out`."""
        if len(self._held_out):
            with closing(self._rows.windows(self._held_out)) as windows:
                for window in windows:
                    own = self._blocks.own(window) + self._rows.n_carried
                    if own.numel():
                        yield own.to(self._rows.device)


def make_feed(rows: Rows, plan: TrainingPlan) -> MemoryFeed | BlockFeed:
    if isinstance(rows, StreamedRows):
        return BlockFeed(rows, plan)
    return MemoryFeed(rows, plan)


def _n_held_out(n: int, plan: TrainingPlan) -> int:
    return min(max(1, round(plan.validation_fraction * n)), n - 1)


def _shuffled(rows: Tensor, generators: list[torch.Generator]) -> Tensor:
    n = rows.shape[1]
    orders = [
        own[torch.randperm(n, generator=rng)] for own, rng in zip(rows, generators, strict=True)
    ]
    return torch.stack(orders)
