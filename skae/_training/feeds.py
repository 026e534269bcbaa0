"""The order of the training rows, and which rows are held out."""

from collections.abc import Generator, Iterator
from contextlib import closing

import numpy as np
import torch
from torch import Tensor

from skae._data.loaded import Rows
from skae._data.shards import ShardRows
from skae._data.streamed import Blocks, StreamedRows
from skae._runtime.communicator import merged
from skae._runtime.randomness import SPLIT_STREAM, generator, mix, shuffled_windows
from skae._training.plan import TrainingPlan


def batch_sizes(n_rows: int, batch_size: int) -> list[int]:
    """Rows of each batch of an epoch; a last batch of one row joins the one before it.

    A single row has no variance to normalize by.
    """
    full, rest = divmod(n_rows, batch_size)
    sizes = [batch_size] * full + [rest] * (rest > 0)
    if rest == 1 and full:
        sizes[-2:] = [batch_size + 1]
    return sizes


class MemoryFeed:
    """Feeds rows that are all in memory at once.

    Attributes
    ----------
    n_train : int
        Rows per epoch and member.
    n_steps : int
        Batches per epoch.
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
        self.n_train, self._batch_size = self._train.shape[1], plan.batch_size
        self.n_steps = len(self.sizes(self.n_train))

    def sizes(self, n_rows: int) -> list[int]:
        """Rows of each batch of the indices that :meth:`epoch` yielded last."""
        return batch_sizes(n_rows, self._batch_size)

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
        self.n_steps = len(self.sizes(self.n_train))

    def sizes(self, n_rows: int) -> list[int]:
        """Like :meth:`MemoryFeed.sizes`."""
        return batch_sizes(n_rows, self._batch_size)

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


class ShardFeed:
    """Feeds the rows of one process among several, each of which holds some of the partitions.

    Every batch has a part of every partition. Which rows these are follows from the seed, the
    epoch and the lengths of the partitions, and not from where the partitions are. Members leave
    out, and hold out, rows of every partition.
    """

    def __init__(self, rows: ShardRows, plan: TrainingPlan):
        self._rows, self._plan, self._device = rows, plan, rows.device
        lengths = torch.from_numpy(rows.whole.lengths)
        n_rows = int(lengths.sum())
        # Every partition is trained on, so that no process is without rows.
        self._n_own = _parted(lengths, plan.max_samples or n_rows).maximum(lengths.clamp(max=1))
        self._n_held_out = torch.zeros_like(lengths)
        if plan.early_stopping:
            n_held_out = _n_held_out(int(self._n_own.sum()), plan)
            self._n_held_out = _parted(self._n_own - self._n_own.clamp(max=1), n_held_out)
        n_train = self._n_own - self._n_held_out
        self._numbers, self.n_train = n_train.cumsum(0) - n_train, int(n_train.sum())
        self.n_steps = len(batch_sizes(self.n_train, plan.batch_size))
        n_windows = -(-len(rows) // rows.window_length)
        self._window_steps = -(-self.n_steps // n_windows)
        self._sizes: list[int] = []

    def _own(self) -> Iterator[tuple[int, Tensor]]:
        """Partitions that are here, with the places (K, m) of each member's own rows of them."""
        first = 0
        for place in self._rows.whole.places:
            length = int(self._rows.whole.lengths[place])
            windows = [(_seed_of(seed, place), share) for seed, share in self._plan.windows]
            own = shuffled_windows(length, int(self._n_own[place]), tuple(windows))
            yield place, own + first
            first += length

    def _split(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Of own rows those that are held out, and those to train on."""
        for place, own in self._own():
            n_held_out, train = int(self._n_held_out[place]), own
            if n_held_out:
                seeds = [_seed_of(seed, place) for seed in self._plan.seeds]
                own = _shuffled(own, [generator(seed, SPLIT_STREAM) for seed in seeds])
                train = own[:, n_held_out:].sort(1).values
            yield place, own[:, :n_held_out], train

    def sizes(self, n_rows: int) -> list[int]:
        """Like :meth:`MemoryFeed.sizes`; a batch may have none of the rows that are here."""
        return self._sizes

    def epoch(self, generators: list[torch.Generator]) -> Generator[Tensor]:
        """Like :meth:`MemoryFeed.epoch`."""
        seeds = [int(torch.randint(2**62, (1,), generator=rng)) for rng in generators]
        turns = torch.randperm(self.n_steps, generator=generators[0])
        n_windows = -(-self.n_steps // self._window_steps)
        steps: list[list[np.ndarray]] = [[] for _ in range(n_windows)]
        with closing(self._rows.windows(self._dealt(seeds, turns, steps))) as windows:
            for number, index in enumerate(windows):
                step = np.concatenate(steps[number])
                n_steps = min(self._window_steps, self.n_steps - number * self._window_steps)
                self._sizes = np.bincount(step, minlength=n_steps).tolist()
                order = torch.from_numpy(step.argsort(kind="stable"))
                yield index[:, order].long().to(self._device)

    def _dealt(
        self, seeds: list[int], turns: Tensor, steps: list[list[np.ndarray]]
    ) -> Iterator[list[Tensor]]:
        """Of each partition the shuffled rows (K, m) of each window; tell their steps in it."""
        # Small numbers: they are of all rows, and sort fast.
        short = np.min_scalar_type(max(self._window_steps, len(steps)))
        for place, _, train in self._split():
            own = [torch.Generator().manual_seed(_seed_of(seed, place)) for seed in seeds]
            rows = _shuffled(train, own)
            # Dealt out like cards, so that all batches are equally large.
            numbers = torch.arange(rows.shape[1]) + self._numbers[place]
            window, step = np.divmod(
                turns[numbers.remainder_(self.n_steps)].numpy(), self._window_steps
            )
            counts = np.bincount(window, minlength=len(steps)).tolist()
            order = torch.from_numpy(window.astype(short).argsort(kind="stable"))
            for of_window, own_steps in zip(
                steps, torch.from_numpy(step)[order].split(counts), strict=True
            ):
                of_window.append(own_steps.numpy().astype(short))
            yield list(rows[:, order].split(counts, 1))

    def held_out(self) -> Generator[Tensor]:
        """Like :meth:`MemoryFeed.held_out`."""
        held_out = torch.cat([held_out for _, held_out, _ in self._split()], 1)
        if held_out.numel():
            for part in held_out.split(self._rows.window_length, 1):
                yield self._rows.window(part).to(self._device)

    def owns(self, some: Tensor) -> Tensor:
        """Whether rows of all processes are each member's own, (K, len(some))."""
        whole = self._rows.whole
        n_members = len(self._plan.windows)
        owned = torch.zeros(n_members, len(whole.local), dtype=torch.bool)
        for _, own in self._own():
            owned.scatter_(1, own, True)
        is_here, places = whole.here(some.numpy())
        found = np.zeros((n_members, len(some)), dtype=bool)
        found[:, is_here] = owned.numpy()[:, places]
        merged(whole.communicator, found)
        return torch.from_numpy(found)


def _parted(counts: Tensor, total: int) -> Tensor:
    """A total parted in proportion to counts, whole numbers, whose sum it is."""
    ends = counts.cumsum(0)
    most = max(int(ends[-1]), 1)
    return ends * total // most - (ends - counts) * total // most


def _seed_of(seed: int, place: int) -> int:
    """A seed for one partition."""
    return int(mix(torch.tensor(place + 1), seed)) & (2**62 - 1)


def make_feed(rows: Rows, plan: TrainingPlan) -> MemoryFeed | BlockFeed | ShardFeed:
    if isinstance(rows, ShardRows):
        return ShardFeed(rows, plan)
    if isinstance(rows, StreamedRows):
        return BlockFeed(rows, plan)
    return MemoryFeed(rows, plan)


def trained_on(rows: Rows | None, plan: TrainingPlan, n_rows: int, some: Tensor) -> Tensor:
    """Which members were trained on each of some of the ``n_rows`` rows, (K, len(some))."""
    if isinstance(rows, ShardRows):
        return ShardFeed(rows, plan).owns(some)
    n_own = plan.max_samples or n_rows
    if plan.block_length is not None:
        return Blocks(n_rows, plan.block_length, n_own, plan.windows).owns(some)
    own = shuffled_windows(n_rows, n_own, plan.windows)
    trained = torch.zeros(len(own), n_rows, dtype=torch.bool).scatter_(1, own, True)
    return trained[:, some]


def _n_held_out(n: int, plan: TrainingPlan) -> int:
    return min(max(1, round(plan.validation_fraction * n)), n - 1)


def _shuffled(rows: Tensor, generators: list[torch.Generator]) -> Tensor:
    n = rows.shape[1]
    orders = [
        own[torch.randperm(n, generator=rng)] for own, rng in zip(rows, generators, strict=True)
    ]
    return torch.stack(orders)
