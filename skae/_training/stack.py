"""Many training runs in one pass: their networks side by side on the member axis."""

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from skae._data.loaded import Rows
from skae._networks.dense import DenseNetwork, paired
from skae._networks.factory import Network
from skae._training.divergence import Seen
from skae._training.job import Job, run
from skae._training.monitor import Monitor
from skae._training.noise import calls_user
from skae._training.plan import TrainState
from skae.exceptions import DivergenceError

# Most bytes of weights, moments, gradients and activations in one pass: what the caches of
# a few cores hold. A larger pass is no faster than its members one by one.
_PASS_BYTES = 64 << 20

# Rows up to this many bytes are joined, so that members with rows of their own share a pass.
_JOINED_BYTES = 64 << 20


def in_passes(jobs: Iterable[Job]) -> list[list[Job]]:
    """Group jobs that can share a pass into passes, none of them too large to save time."""
    kinds: dict[Hashable, list[Job]] = {}
    for job in jobs:
        kinds.setdefault(_kind(job), []).append(job)
    passes = []
    for alike in kinds.values():
        length = max(1, _PASS_BYTES // max(_pass_bytes(job) for job in alike))
        passes += [alike[i : i + length] for i in range(0, len(alike), length)]
    return passes


def _kind(job: Job) -> Hashable:
    """A key that is equal for jobs that can share a pass."""
    network, rows, plan = job.network, job.rows, job.plan
    if not isinstance(network, DenseNetwork) or calls_user(plan.noise) or plan.block_length:
        return id(job)
    spec = network.spec
    # Sparsity is annealed from the number of latents, and the two halves of a variational
    # encoder's output must have the same size, so these members need equally many latents.
    if spec.n_nonzero is None and not spec.variational:
        spec = dataclasses.replace(spec, n_components=())
    alike = dataclasses.replace(
        plan, learning_rates=(), weight_decays=(), seeds=(), places=(), first_rows=()
    )
    # Ranges for noise, shares of missing cells and of categories are those of all members.
    of_all = plan.noise is not None or rows.has_missing or rows.categories is not None
    shared = of_all or rows.values.nbytes > _JOINED_BYTES
    return (
        spec,
        alike,
        (network.parameters.dtype, network.device),
        (rows.values.shape, rows.weights is None, rows.keys is None, rows.bounds is None),
        id(rows) if shared else 0,
    )


def _pass_bytes(job: Job) -> int:
    network, size = job.network, job.network.parameters.element_size()
    n_activations = 2 * job.plan.batch_size * sum(_widths(network)) * network.n_members
    return size * (4 * network.parameters.numel() + n_activations)


def _widths(network: Network) -> tuple[int, ...]:
    return network.spec.widths if isinstance(network, DenseNetwork) else ()


class Stack:
    """Joins jobs of one kind into one job, and is also the monitor of that job.

    Each of the jobs stops, keeps its best weights and diverges by itself. It ends with the
    weights and moments that it also gets alone.

    Attributes
    ----------
    job : Job
        The joined job, which is to be trained.
    errors : dict
        The error of each job that diverged, by the job's number.
    """

    def __init__(self, jobs: list[Job]):
        self._jobs = jobs
        self.errors: dict[int, DivergenceError] = {}
        self._done: set[int] = set()
        networks = [job.network for job in jobs]
        self._first = [0]
        for network in networks[:-1]:
            self._first.append(self._first[-1] + network.n_members)
        network = _stacked(networks)  # type: ignore[arg-type]
        rows, starts = joined([job.rows for job in jobs], [net.n_members for net in networks])
        plans = [job.plan for job in jobs]
        first_rows = [plan.first_rows or (0,) * len(plan.seeds) for plan in plans]
        plan = dataclasses.replace(
            plans[0],
            learning_rates=sum((plan.learning_rates for plan in plans), ()),
            weight_decays=sum((plan.weight_decays for plan in plans), ()),
            seeds=sum((plan.seeds for plan in plans), ()),
            places=sum((plan.windows for plan in plans), ()),
            first_rows=tuple(
                start + first
                for start, firsts in zip(starts, first_rows, strict=True)
                for first in firsts
            ),
        )
        self.job = Job(network, rows, plan, TrainState(), self)  # type: ignore[arg-type]

    def epoch_done(self, loss: list[float], validation_loss: list[float] | None) -> bool:
        """Record an epoch of every job; return whether all of them are done."""
        for i in self._active():
            first, job = self._first[i], self._jobs[i]
            own, watched = slice(first, first + job.network.n_members), None
            if validation_loss is not None:
                watched = validation_loss[own]
                self._fetch(i)  # These may be the best weights.
            if self._is_done(i, partial(Monitor.epoch_done, job.monitor, loss[own], watched)):
                self._fetch(i)
                self._done.add(i)
        return not self._active()

    def finish(self, rows: Rows, seen: Seen | None) -> None:
        for i in self._active():
            self._fetch(i)
        for i, job in enumerate(self._jobs):
            if i not in self.errors:
                own = slice(self._first[i], self._first[i] + job.network.n_members)
                some = None if seen is None else seen.of(own)
                self._is_done(i, partial(Monitor.finish, job.monitor, job.rows, some))

    def _active(self) -> list[int]:
        return [i for i in range(len(self._jobs)) if i not in self._done]

    def _is_done(self, i: int, action: Callable[[], Any]) -> bool:
        """Whether a job is done, because ``action`` returns so or because it diverged."""
        try:
            return bool(action())
        except DivergenceError as error:
            self.errors[i] = error
            return True

    def _fetch(self, i: int) -> None:
        """Copy a job's weights and state from the joined job."""
        job, whole, first = self._jobs[i], self.job, self._first[i]
        assert isinstance(job.network, DenseNetwork)
        assert isinstance(whole.network, DenseNetwork)
        for own, members in _pairs(job.network, whole.network, first):
            own.copy_(members)
        specs = job.network.spec, whole.network.spec
        for name, moments in whole.state.moments.items():
            mine = job.state.moments.setdefault(name, torch.zeros_like(job.network.parameters))
            for own, members in paired(specs[0], mine, specs[1], moments, first):
                own.copy_(members)
        job.state.n_steps, job.state.n_epochs = whole.state.n_steps, whole.state.n_epochs


def trained(jobs: list[Job]) -> list[Job]:
    """Train jobs of one kind in one pass; those that did not diverge."""
    if len(jobs) == 1:
        try:
            run(jobs[0])
        except DivergenceError:
            return []
        return jobs
    stack = Stack(jobs)
    run(stack.job)
    return [job for i, job in enumerate(jobs) if i not in stack.errors]


def _stacked(networks: list[DenseNetwork]) -> DenseNetwork:
    """A new network that has all members of some networks."""
    sizes = tuple(size for network in networks for size in network.spec.n_components)
    spec = dataclasses.replace(networks[0].spec, n_components=sizes)
    stack = DenseNetwork.zeros(spec, networks[0].parameters.dtype, networks[0].device)
    first = 0
    for network in networks:
        for own, members in _pairs(network, stack, first):
            members.copy_(own)
        first += network.n_members
    return stack


def _pairs(own: DenseNetwork, whole: DenseNetwork, first: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Views of one network's values, paired with views of the same values in the whole."""
    yield from paired(own.spec, own.parameters, whole.spec, whole.parameters, first)
    for i, moments in own.moments.items():
        for mine, all_of_them in zip(moments, whole.moments[i], strict=True):
            yield mine, all_of_them[first : first + own.n_members]
    yield own.dispersion, whole.dispersion[first : first + own.n_members]


def joined(rows: list[Rows], n_members: list[int]) -> tuple[Rows, list[int]]:
    """The rows of all jobs in one, each kept once, and where the rows of each job begin.

    A job has ``n_members`` members.
    """
    distinct = {id(one): one for one in rows}
    if len(distinct) == 1:
        return rows[0], [0] * len(rows)
    parts, length = list(distinct.values()), len(rows[0].values)
    place = {key: i * length for i, key in enumerate(distinct)}

    def cat(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else torch.cat(values)

    whole = dataclasses.replace(
        parts[0],
        values=cat("values"),
        weights=cat("weights"),
        keys=cat("keys"),
        n_rows=len(rows[0]),
    )
    if whole.bounds is not None:
        sizes = torch.tensor(n_members, device=whole.device)
        low, high = (torch.cat([one.bounds[i] for one in rows]) for i in (0, 1))  # type: ignore
        whole.bounds = low.repeat_interleave(sizes, 0), high.repeat_interleave(sizes, 0)
    return whole, [place[id(one)] for one in rows]
