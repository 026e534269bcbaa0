"""The one training loop. It knows no network, no loss formula and no noise:
it gathers a batch, asks a step for outputs, sends the loss's slope backwards
and lets the optimizer move the weights. It waits for the device once an epoch.
"""

from contextlib import nullcontext

import torch
from torch import Tensor

from skae.data.batches import Rows
from skae.losses import LOSSES, Loss
from skae.networks.build import Network, draws_globally, make_step
from skae.networks.dense import DenseNetwork, member_values
from skae.noise import Corrupt, ImageSpace, make_noise
from skae.randomness import (
    EPOCH_STREAM,
    SPLIT_STREAM,
    draw_seed,
    generator,
    isolated_globals,
    subsamples,
    table_offsets,
)
from skae.training.monitor import Monitor
from skae.training.optimizers import Optimizer, Rate
from skae.training.plan import SCHEDULES, TrainingPlan, TrainState


def train(
    network: Network, rows: Rows, plan: TrainingPlan, state: TrainState, monitor: Monitor
) -> None:
    """Train in place: the network's weights and buffers, and ``state``.

    Raises
    ------
    DivergenceError
        If the loss or the weights stop being finite.
    """
    run = _Run(network, rows, plan, state)
    for _ in range(state.epoch, plan.max_epochs):
        with _global_generator(network, plan, state):
            loss, validation_loss = run.epoch(), run.validation_loss()
        # The one synchronisation with the device.
        watched = None if validation_loss is None else validation_loss.tolist()
        if monitor.epoch_done(loss.tolist(), watched):
            break
    monitor.finish()


def _global_generator(network: Network, plan: TrainingPlan, state: TrainState):
    """Modules may draw (dropout, say) from torch's global generator: seeded for each epoch."""
    if not draws_globally(network):
        return nullcontext()
    return isolated_globals(draw_seed(plan.seeds[0] + state.n_epochs), network.device)


def batch_sizes(n_rows: int, batch_size: int) -> list[int]:
    """Rows of each batch of an epoch; a last batch of one row joins the one before it.

    A single row has no variance to normalise by.
    """
    full, rest = divmod(n_rows, batch_size)
    sizes = [batch_size] * full + [rest] * (rest > 0)
    if rest == 1 and full:
        sizes[-2:] = [batch_size + 1]
    return sizes


class _Run:
    """Indices, buffers and optimizer of one training run."""

    def __init__(self, network: Network, rows: Rows, plan: TrainingPlan, state: TrainState):
        self._network, self._rows, self._plan, self._state = network, rows, plan, state
        self._train, self._held_out = self._split()
        gradients = torch.zeros_like(network.parameters)
        self._optimizer = self._make_optimizer(gradients)
        self._sizes = batch_sizes(self._train.shape[1], plan.batch_size)
        noise = self._make_noise()
        self._batches = {
            size: _Batch(network, rows, plan, gradients, noise, size) for size in set(self._sizes)
        }

    def epoch(self) -> Tensor:
        """One pass over the training rows; the mean loss of each member."""
        stream = EPOCH_STREAM + self._state.n_epochs
        generators = [generator(seed, stream) for seed in self._plan.seeds]
        salts = [torch.randint(2**62, (1,), generator=rng) for rng in generators]
        order = self._shuffled(generators)
        losses = torch.empty(
            order.shape, dtype=self._network.parameters.dtype, device=self._network.device
        )
        indices = (order, self._offsets(order, salts), losses)
        pieces = zip(*(index.split(self._sizes, 1) for index in indices), strict=True)
        if self._network.spec.sparsity is not None:
            self._anneal_sparsity(self._network.spec.sparsity)
        schedule = SCHEDULES[self._plan.lr_schedule]
        horizon = self._plan.max_epochs * len(self._sizes)
        earlier, begun = self._state.n_steps + 1, self._state.epoch * len(self._sizes)
        for done, (index, offset, loss) in enumerate(pieces):
            self._batches[index.shape[1]].compute_gradients(index, offset, loss)
            self._optimizer.step(earlier + done, schedule((begun + done) / horizon))
        self._state.n_steps += len(self._sizes)
        self._state.n_epochs += 1
        self._state.epoch += 1
        return self._mean_loss(losses, order)

    def _anneal_sparsity(self, n_kept: int) -> None:
        """Fewer and fewer latents are kept over the first half of the epochs.

        Lest some never win and stay dead (Makhzani and Frey 2013). At a constant rate
        the number is constant too: such training has no end by which to anneal.
        """
        progress = 1.0
        if self._plan.lr_schedule != "constant":
            progress = min(1.0, 2 * self._state.epoch / self._plan.max_epochs)
        most = self._network.spec.n_latents
        for batch in self._batches.values():
            batch.step.n_kept = round(n_kept * (most / n_kept) ** (1.0 - progress))

    def validation_loss(self) -> Tensor | None:
        """Mean loss of each member on its held-out rows, if there are any."""
        if self._held_out is None:
            return None
        loss, network = LOSSES[self._plan.loss], self._network
        losses = []
        for index in self._held_out.split(max(1, (1 << 19) // network.row_width), 1):
            target = torch.empty(
                *index.shape,
                self._rows.values.shape[1],
                dtype=network.parameters.dtype,
                device=network.device,
            )
            self._rows.take(index.reshape(-1), target.view(-1, target.shape[2]))
            observed = ~target.isnan() if self._rows.has_missing else None
            if observed is not None:
                target.nan_to_num_(0.0)
            values = loss.value(network.decode(network.encode(target)), target)
            losses.append((values if observed is None else values * observed).sum(-1))
        return self._mean_loss(torch.cat(losses, 1), self._held_out)

    def _mean_loss(self, losses: Tensor, index: Tensor) -> Tensor:
        n_cells = self._rows.values.shape[1] * self._rows.observed_share
        if self._rows.weights is None:
            return losses.mean(1) / n_cells
        weights = self._rows.weights[index]
        return (losses * weights).sum(1) / weights.sum(1) / n_cells

    def _split(self) -> tuple[Tensor, Tensor | None]:
        """Indices (K, n) of the training and the held-out rows of each member."""
        plan, n_rows = self._plan, len(self._rows)
        own = subsamples(n_rows, plan.max_samples or n_rows, plan.seeds)
        if plan.first_rows:
            own = own + torch.tensor(plan.first_rows)[:, None]
        if not plan.early_stopping:
            return own, None
        n = own.shape[1]
        n_held_out = min(max(1, round(plan.validation_fraction * n)), n - 1)
        orders = [torch.randperm(n, generator=generator(seed, SPLIT_STREAM)) for seed in plan.seeds]
        order = own.gather(1, torch.stack(orders))
        held_out = order[:, :n_held_out].sort(1).values
        return order[:, n_held_out:].sort(1).values, held_out.to(self._network.device)

    def _shuffled(self, generators: list[torch.Generator]) -> Tensor:
        n = self._train.shape[1]
        orders = [
            rows[torch.randperm(n, generator=rng)]
            for rows, rng in zip(self._train, generators, strict=True)
        ]
        return torch.stack(orders).to(self._network.device)

    def _offsets(self, order: Tensor, salts: list[Tensor]) -> Tensor:
        """A new random offset for every row, the same for rows of equal content."""
        if self._rows.keys is None:
            return order
        return table_offsets(self._rows.keys[order], torch.stack(salts).to(order.device))

    def _make_optimizer(self, gradients: Tensor) -> Optimizer:
        plan, network = self._plan, self._network

        def rate_of(values: tuple[float, ...]) -> Rate:
            if len(set(values)) == 1:
                return values[0]
            assert isinstance(network, DenseNetwork)
            rates = torch.tensor(values, dtype=gradients.dtype, device=gradients.device)
            return member_values(network.spec, rates)

        return Optimizer(
            plan.optimizer,
            network.parameters,
            gradients,
            self._state.moments,
            rate_of(plan.learning_rates),
            rate_of(plan.weight_decays),
            network.n_decayed,
        )

    def _make_noise(self) -> Corrupt | None:
        plan = self._plan
        if plan.noise is None:
            return None
        images = ImageSpace(self._rows.origin, plan.image_shape) if plan.image_shape else None
        low, high = self._rows.low_and_high()
        return make_noise(plan.noise, plan.noise_level, low, high, plan.seeds[0], images)


class _Batch:
    """Gathers batches of one size and computes their losses and gradients."""

    def __init__(
        self,
        network: Network,
        rows: Rows,
        plan: TrainingPlan,
        gradients: Tensor,
        noise: Corrupt | None,
        size: int,
    ):
        self._rows, self._noise, self._latent_l1 = rows, noise, plan.latent_l1
        self._loss: Loss = LOSSES[plan.loss]
        self.step = make_step(network, gradients, size, plan.product_dtype, plan.latent_l1 > 0)
        clean = self.step.input
        if noise is not None or clean.dtype != network.parameters.dtype:
            clean = torch.empty_like(clean, dtype=network.parameters.dtype)
        self._clean, self._flat = clean, clean.view(-1, clean.shape[2])
        self._observed = torch.empty_like(clean) if rows.has_missing else None
        # Gradient of the mean over the batch's cells; what is missing has no weight.
        n_cells = size * clean.shape[2] * rows.observed_share
        self._scale = clean.new_full((1, 1, 1), self._loss.scale / n_cells)
        self._penalty_scale = clean.new_full((1, 1, 1), plan.latent_l1 / size)

    def compute_gradients(self, index: Tensor, offsets: Tensor, losses: Tensor) -> None:
        """Fill the gradients from the rows of ``index``, (K, size), and their ``losses``."""
        step, clean, observed = self.step, self._clean, self._observed
        rows = index.reshape(-1)
        self._rows.take(rows, self._flat)
        if observed is not None:
            torch.eq(clean, clean, out=observed)
            clean.nan_to_num_(0.0)
        if self._rows.keys is not None:
            step.offsets.copy_(offsets.reshape(-1))
        if self._noise is not None:
            self._noise(clean, step.offsets, step.input)
        elif step.input is not clean:
            step.input.copy_(clean)
        step.forward()

        values = self._loss.value(step.output, clean)
        self._loss.slope(step.output, clean, step.gradient)
        if observed is not None:
            values.mul_(observed)
            step.gradient.mul_(observed)
        torch.sum(values, -1, out=losses)
        scale, penalty_scale = self._scale, self._penalty_scale
        if self._rows.weights is not None:
            weights = self._rows.weights[rows].view(*index.shape, 1)
            scale, penalty_scale = scale * weights, penalty_scale * weights
        step.gradient.mul_(scale)
        if self._latent_l1:
            torch.sign(step.latents, out=step.latent_gradient).mul_(penalty_scale)
        step.backward()
