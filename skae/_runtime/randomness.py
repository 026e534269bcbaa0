"""Local randomness: seeds, generators and a table of random rows.

Nothing here reads or changes the global random state of NumPy or torch, except
:func:`isolated_globals`, which restores torch's.
"""

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

# User modules draw from torch's global generator. Only one thread may use it at a
# time, because two threads would mix their draws.
_GLOBAL_GENERATOR = threading.RLock()


def _unlocked_after_fork() -> None:
    """A thread that holds the lock does not survive a fork; the child would wait forever."""
    global _GLOBAL_GENERATOR
    _GLOBAL_GENERATOR = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlocked_after_fork)

# Streams of a seed. Epoch e of an estimator draws from stream EPOCH_STREAM + e, so that
# training can continue after unpickling without the state of a generator.
WEIGHTS_STREAM, SPLIT_STREAM = 0, 1
TABLE_STREAM, EPOCH_STREAM = 3, 4
# These streams lie beyond those of all epochs.
MEMBER_STREAM, SUBSAMPLE_STREAM, SCORE_STREAM, SCALING_STREAM = range(2**40, 2**40 + 4)
START_STREAM, DENSITY_STREAM, RECENT_STREAM, FRONT_STREAM = range(2**40 + 4, 2**40 + 8)
RING_STREAM = 2**40 + 8
# One for the noise of each epoch that is the caller's own function.
NOISE_STREAM = 2**41

# Salts of what reads a table of random numbers at the offset of a row. Nobody shares one, or what
# they draw for a row would be the same. The first noise takes the offset as it is.
DRAWN_SALT, ORDERED_SALT = -2, -1  # latents
DROPOUT_SALT = 0  # and the number of the layer
NOISE_SALT = 2**32  # and the place in a tuple of noises

# Two odd 64-bit constants (of SplitMix64, Steele et al. 2014), as signed integers.
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


def draw_seed(random_state: "int | np.random.RandomState | None") -> int:
    """A seed below 2**31: fixed for an integer, drawn from a ``RandomState``, or from
    fresh entropy for None (the global state is not used)."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0] >> 1)
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    return int(np.random.SeedSequence(int(random_state)).generate_state(1)[0] >> 1)


def generator(seed: int, stream: int) -> torch.Generator:
    """A CPU generator; each ``stream`` of a seed is independent of the others."""
    sequence = np.random.SeedSequence((seed, stream))
    return torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))


def member_seeds(seed: int, n_members: int) -> tuple[int, ...]:
    """One seed per member; the first one is ``seed`` itself."""
    rng = generator(seed, MEMBER_STREAM)
    others = torch.randint(2**31, (n_members - 1,), generator=rng)
    return (seed, *others.tolist())


def subsamples(n: int, size: int, seeds: tuple[int, ...], stream: int = SUBSAMPLE_STREAM) -> Tensor:
    """Sorted indices (K, size) of rows drawn per seed; by default, its member's training rows."""
    if size >= n:
        return torch.arange(n).expand(len(seeds), n)
    drawn = [torch.randperm(n, generator=generator(seed, stream))[:size] for seed in seeds]
    return torch.stack(drawn).sort(1).values


def shuffled_windows(n: int, size: int, places: tuple[tuple[int, float], ...]) -> Tensor:
    """Indices (K, size) of rows, in order: windows of rows that are shuffled by a seed.

    A place is the seed and where the window begins, as a share of the rows. Windows of one seed
    that begin K-ths apart, and leave out a K-th of the rows or more, leave out every row once.
    """
    if size >= n:
        return torch.arange(n).expand(len(places), n)
    drawn = []
    for seed, start in places:
        order = torch.randperm(n, generator=generator(seed, SUBSAMPLE_STREAM))
        drawn.append(order.roll(-int(start * n))[:size])
    return torch.stack(drawn).sort(1).values


@contextmanager
def isolated_globals(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generator in a block, for code that uses no other.

    The default dtype is float32 inside, so that such code draws the same numbers
    whatever the caller's default is.
    """
    on_cpu = device.type == "cpu"
    where = {} if on_cpu else {"device_type": device.type}
    with _GLOBAL_GENERATOR, torch.random.fork_rng([] if on_cpu else [device], **where):
        torch.default_generator.manual_seed(seed)
        if not on_cpu:
            torch.get_device_module(device).manual_seed(seed)
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


def mix(keys: Tensor, salt: Tensor | int) -> Tensor:
    """Hash int64 ``keys`` with a salt: the finalizer of SplitMix64."""
    mixed = (keys + salt) * _MIX_1
    mixed ^= mixed >> 29
    mixed *= _MIX_2
    mixed ^= mixed >> 32
    return mixed


class RandomTable:
    """Random rows of any width, read as windows of one table.

    Drawing a million Bernoulli variates costs 10 ms on a CPU core, gathering
    them from a table 0.06 ms. A window starts at a hashed offset, so that a
    row of data gets the same draw wherever it stands in its batch.

    Parameters
    ----------
    values : Tensor of shape (SIZE,)
        The random values that the table holds.
    width : int
        Width of the widest row that will be asked for.
    """

    SIZE = 1 << 20

    def __init__(self, values: Tensor, width: int):
        self._values = torch.cat([values, values[:width]])

    def rows(self, offsets: Tensor, out: Tensor) -> Tensor:
        """Gather one window per offset into ``out`` of shape (len(offsets), width)."""
        windows = self._values.as_strided((self.SIZE, out.shape[1]), (1, 1))
        return torch.index_select(windows, 0, offsets, out=out)


def table_offsets(keys: Tensor, salt: Tensor | int) -> Tensor:
    """An offset into a :class:`RandomTable` for each key."""
    return mix(keys, salt) & (RandomTable.SIZE - 1)


def spread_normal(n: int, width: int) -> Tensor:
    """Rows of standard normal numbers, (n, width), float64, always the same ones.

    They come from a Sobol sequence, which spreads them evenly, so that few rows average well.
    """
    uniform = torch.quasirandom.SobolEngine(width, scramble=True, seed=0).draw(
        n, dtype=torch.float64
    )
    return torch.erfinv(2.0 * uniform.clamp(1e-6, 1 - 1e-6) - 1.0) * math.sqrt(2.0)
