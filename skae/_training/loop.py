"""The training loop, the same for all networks, losses and kinds of noise.

It gathers a batch, asks a step for outputs, sends the loss's slope backwards and
lets the optimizer move the weights. It waits for the device once per epoch.
"""

import math
from contextlib import AbstractContextManager, closing, nullcontext

import torch
from torch import Tensor

from skae._data.loaded import Rows, within
from skae._networks.dense import DenseNetwork, member_values
from skae._networks.dense_step import DenseStep
from skae._networks.factory import Network, draws_globally, make_step
from skae._runtime.device import computing, has_graphs
from skae._runtime.randomness import (
    EPOCH_STREAM,
    NOISE_STREAM,
    draw_seed,
    generator,
    isolated_globals,
    table_offsets,
)
from skae._runtime.threads import Pace
from skae._runtime.tuning import BOUNDED_FROM, DISPERSION_RATE
from skae._training.divergence import Seen
from skae._training.evaluation import row_losses
from skae._training.feeds import make_feed
from skae._training.losses import Loss, loss_of
from skae._training.monitor import Monitor
from skae._training.noise import Corrupt, RowSpace, calls_user, make_noise
from skae._training.optimizers import Optimizer, Rate
from skae._training.plan import SCHEDULES, TrainingPlan, TrainState
from skae._training.replays import FEWEST_STEPS, Pieces, Replays

# Numbers in what is built for batches of several sizes.
_MOST_NUMBERS = 1 << 21


def train(
    network: Network,
    rows: Rows,
    plan: TrainingPlan,
    state: TrainState,
    monitor: Monitor,
    pace: Pace | None = None,
) -> None:
    """Train in place: the network's weights and buffers, and ``state``.

    A step is a lap of the ``pace``.

    Raises
    ------
    DivergenceError
        If the loss or the weights stop being finite, or the network ends as one of no use.
    """
    run = _Run(network, rows, plan, state, pace or Pace(1))
    for _ in range(state.epoch, plan.max_epochs):
        with _global_generator(network, plan, state):
            loss, validation_loss = run.epoch(), run.validation_loss()
        # The only synchronization with the device.
        watched = None if validation_loss is None else validation_loss.tolist()
        if monitor.epoch_done(loss.tolist(), watched):
            break
    monitor.finish(rows, run.seen())


def _global_generator(
    network: Network, plan: TrainingPlan, state: TrainState
) -> AbstractContextManager[None]:
    """Seed torch's global generator for each epoch, if modules (dropout, say) draw from it."""
    if not draws_globally(network):
        return nullcontext()
    return isolated_globals(draw_seed(plan.seeds[0] + state.n_epochs), network.device)


def _mean(parts: list[tuple[Tensor, Tensor | int]]) -> Tensor:
    """The weighted mean of means; a single mean stays the same to the bit."""
    total = sum(weight for _, weight in parts)
    return torch.stack([mean * (weight / total) for mean, weight in parts]).sum(0)


def _mean_loss(rows: Rows, losses: Tensor, index: Tensor) -> tuple[Tensor, Tensor | int]:
    """The mean loss of each member per cell of the rows at ``index``, and its weight."""
    n_cells = rows.n_columns * rows.observed_share
    with computing(losses.device, 0.0):
        if rows.weights is None:
            return losses.mean(1) / n_cells, losses.shape[1]
        weights = rows.weights[index]
        total = weights.sum(1)
        return (losses * weights).sum(1) / total / n_cells, total


class _Run:
    """Indices, buffers and optimizer of one training run."""

    def __init__(
        self, network: Network, rows: Rows, plan: TrainingPlan, state: TrainState, pace: Pace
    ):
        self._network, self._rows, self._plan, self._state = network, rows, plan, state
        self._pace = pace
        self._feed = make_feed(rows, plan)
        gradients = torch.zeros_like(network.parameters)
        self._optimizer = self._make_optimizer(gradients)
        self._epoch_steps, self._begun = self._feed.n_steps, 0
        self._last: _Batch | None = None
        self._before: dict[str, Tensor] | None = None
        if state.n_steps:
            self._before = {name: value.clone() for name, value in network.state().items()}
        self._noise_rng = torch.Generator()
        self._gradients, self._noise = gradients, self._make_noise()
        self._batches: dict[int, _Batch] = {}
        self._n_kept = network.spec.n_nonzero or 0
        self._replays: Replays | None = None

    def epoch(self) -> Tensor:
        """Train on all training rows once; return the mean loss of each member."""
        stream = EPOCH_STREAM + self._state.n_epochs
        generators = [generator(seed, stream) for seed in self._plan.seeds]
        salts = [torch.randint(2**62, (1,), generator=rng) for rng in generators]
        of_noise = generator(self._plan.seeds[0], NOISE_STREAM + self._state.n_epochs)
        self._noise_rng.set_state(of_noise.get_state())
        if self._network.spec.n_nonzero is not None:
            self._anneal_n_kept(self._network.spec.n_nonzero)
        self._begun = self._state.epoch * self._epoch_steps
        self._rows.align(self._network.parameters)
        with closing(self._feed.epoch(generators)) as orders:
            parts = [self._pass(order, salts) for order in orders]
        self._state.n_epochs += 1
        self._state.epoch += 1
        return _mean(self._rows.joined(parts, self._network.n_members))

    def _pass(self, order: Tensor, salts: list[Tensor]) -> tuple[Tensor, Tensor | int]:
        """Train on rows in this order, (K, m); return each member's mean loss and its weight."""
        losses = torch.empty(
            order.shape, dtype=self._network.parameters.dtype, device=self._network.device
        )
        sizes = self._feed.sizes(order.shape[1])
        pieces, n_replayed = (order, self._offsets(order, salts), losses), 0
        if self._is_replayed(sizes):
            pieces, n_replayed = self._replay(sizes, pieces)
        cut, left = sum(sizes[:n_replayed]), sizes[n_replayed:]
        batches = zip(*(piece[:, cut:].split(left, 1) for piece in pieces), strict=True)
        self._pace.start()
        for done, (index, offset, loss) in enumerate(batches, start=n_replayed):
            progress, factor = self._course(done)
            if n_rows := index.shape[1]:
                self._last = self._batch(n_rows)
                self._last.compute_gradients(index, offset, loss, progress)
            self._rows.combine(self._gradients, n_rows)
            self._optimizer.step(self._state.n_steps + 1 + done, factor)
            self._pace.lap()
        self._begun += len(sizes)
        self._state.n_steps += len(sizes)
        return _mean_loss(self._rows, pieces[2], order)

    def _course(self, done: int) -> tuple[float, float]:
        """How far the run is before a step of this pass, and the factor of the rates."""
        progress = (self._begun + done) / (self._plan.max_epochs * self._epoch_steps)
        return progress, SCHEDULES[self._plan.lr_schedule](progress)

    def _is_replayed(self, sizes: list[int]) -> bool:
        """Whether the device can repeat steps by itself.

        What they do must not change, but for what is on the device.
        """
        network, plan, rows = self._network, self._plan, self._rows
        return (
            has_graphs(network.device)
            and isinstance(network, DenseNetwork)
            and network.spec.n_nonzero is None
            and plan.beta is None
            and not calls_user(plan.noise)
            and rows.stay_with(network.parameters)
            and plan.max_epochs * len(sizes) >= FEWEST_STEPS
        )

    def _replay(self, sizes: list[int], pieces: Pieces) -> tuple[Pieces, int]:
        """Make the steps of full batches; return where the pieces are now, and their number."""
        size, n_full = sizes[0], sizes.count(sizes[0])
        self._last = batch = self._batch(size)
        if self._replays is None:
            given = batch.compute_gradients, self._optimizer, self._network.parameters
            self._replays = Replays(size, *given)
        course, factors = zip(*map(self._course, range(n_full)), strict=True)
        pieces = self._replays.begin(pieces, self._state.n_steps + 1, list(factors))
        n_loose = sum(not batch.bounded(progress) for progress in course)
        done = 0
        while done < n_full:
            bounded = done >= n_loose
            most = (n_full if bounded else n_loose) - done
            done += self._replays.advance(done, most, bounded, course[done])
        return pieces, n_full

    def _batch(self, size: int) -> "_Batch":
        """What computes batches of one size, built when the first of them comes."""
        if size not in self._batches:
            self._make_room(size)
            given = self._network, self._rows, self._plan, self._gradients, self._noise
            self._batches[size] = _Batch(*given, size)
            self._batches[size].step.controls.n_kept = self._n_kept
        return self._batches[size]

    def _make_room(self, size: int) -> None:
        """Drop what was built for other sizes, if that is too much.

        There are many sizes where rows are in several processes, of which each has another share
        of every batch.
        """
        most = _MOST_NUMBERS // self._network.row_width
        while self._batches and sum(self._batches) + size > most:
            batch = self._batches.pop(next(iter(self._batches)))
            vars(batch.step).clear()  # Its operations know it: it would stay for a while.
            self._replays = None  # They may be of this batch.

    def _anneal_n_kept(self, n_kept: int) -> None:
        """Keep fewer and fewer latents over the first half of the epochs.

        Otherwise some latents would never be kept and stay dead (Makhzani and Frey 2013). At
        a constant rate the number is constant too, because such training has no fixed end.
        """
        progress = 1.0
        if self._plan.lr_schedule != "constant":
            progress = min(1.0, 2 * self._state.epoch / self._plan.max_epochs)
        most = self._network.spec.n_latents
        self._n_kept = round(n_kept * (most / n_kept) ** (1.0 - progress))
        for batch in self._batches.values():
            batch.step.controls.n_kept = self._n_kept

    def seen(self) -> Seen | None:
        """The rows of the last step, if there was one."""
        return None if self._last is None else self._last.seen()._replace(before=self._before)

    def validation_loss(self) -> Tensor | None:
        """Mean loss of each member on its held-out rows, if there are any."""
        if (own := self._rows.validation) is not None:
            index = torch.arange(len(own), device=own.device).expand(self._network.n_members, -1)
            if own.n_rows is not None:  # Each member has rows of its own.
                index = index + len(own) * torch.arange(len(index), device=own.device)[:, None]
            return self._held_out_loss(own, index)[0]
        with closing(self._feed.held_out()) as windows:
            parts = [self._held_out_loss(self._rows, held_out) for held_out in windows]
        parts = self._rows.joined(parts, self._network.n_members)
        return _mean(parts) if parts else None

    def _held_out_loss(self, rows: Rows, held_out: Tensor) -> tuple[Tensor, Tensor | int]:
        losses = row_losses(self._network, rows, self._plan, held_out)
        return _mean_loss(rows, losses, held_out)

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
        categories = self._rows.categories
        space = RowSpace(
            *self._rows.low_and_high(),
            self._rows.origin,
            self._network.missing,
            plan.image_shape,
            () if categories is None else categories.sizes,
        )
        return make_noise(plan.noise, plan.noise_level, space, self._noise_rng)


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
        self._loss: Loss = loss_of(plan.loss, rows.categories)
        has_penalty = plan.latent_l1 > 0 or plan.path_weight > 0
        self.step = make_step(network, gradients, size, plan.product_dtype, has_penalty)
        clean = self.step.input
        has_noise = noise is not None or rows.noisy is not None
        if has_noise or clean.dtype != network.parameters.dtype:
            clean = torch.empty_like(clean, dtype=network.parameters.dtype)
        self._clean, self._flat = clean, clean.view(-1, clean.shape[2])
        # Noise is drawn and added in full precision, and rounded once.
        rounded = has_noise and clean.dtype != self.step.input.dtype
        self._noisy = torch.empty_like(clean) if rounded else self.step.input
        self._observed = torch.empty_like(clean) if rows.has_missing else None
        self._row_weights: Tensor | None = None
        self._missing, self._takes_nan = network.missing, math.isnan(network.missing)
        # Gradient of the mean over the batch's cells; missing cells have no weight.
        n_cells = size * rows.n_columns * rows.observed_share
        self._scale = clean.new_full((1, 1, 1), self._loss.scale / n_cells)
        self._penalty_scale = clean.new_full((1, 1, 1), plan.latent_l1 / size)
        self._beside: tuple[Tensor, Tensor] | None = None
        if plan.path_weight > 0:
            assert isinstance(self.step, DenseStep)
            variances = self.step.network.layers[-1].path.square().sum(1, keepdim=True)
            self._beside = self.step.beside, variances * (plan.path_weight * self._scale)
        self._beta, self._warm_up, self._dispersion = plan.beta, plan.kl_warm_up, network.dispersion
        self._row_cells = n_cells / size
        # At a constant rate training has no fixed end, so outputs are bounded from the start.
        self._bounded_from = 0.0 if plan.lr_schedule == "constant" else BOUNDED_FROM

    def compute_gradients(
        self, index: Tensor, offsets: Tensor, losses: Tensor, progress: float
    ) -> None:
        """Write the gradients and the ``losses`` of the rows at ``index``, (K, size)."""
        step, clean, observed = self.step, self._clean, self._observed
        rows = index.reshape(-1)
        self._rows.take(rows, self._flat)
        if observed is not None:
            torch.eq(clean, clean, out=observed)
            clean.nan_to_num_(0.0)
        if self._rows.keys is not None:
            step.offsets.copy_(offsets.reshape(-1))
        given = clean
        if self._rows.noisy is not None:
            given = self._noisy
            self._rows.noisy.take(rows, given.view(self._flat.shape))
            given.nan_to_num_(self._missing)
        elif self._noise is not None:
            given = self._noisy
            self._noise(clean, step.offsets, given)
        if step.input is not given:
            step.input.copy_(given)
        if observed is not None and self._takes_nan and self._rows.noisy is None:
            step.input.masked_fill_(observed == 0.0, math.nan)
        step.forward()
        output = step.output
        if self.bounded(progress):
            # The slope is that of the clipped output: beyond a target at the bound, it is zero.
            output = within(output, self._rows.bounds)

        values = self._loss.value(output, clean)
        self._loss.slope(output, clean, step.gradient)
        if observed is not None:
            values.mul_(observed)
            step.gradient.mul_(observed)
        torch.sum(values, -1, out=losses)
        scale, penalty_scale = self._scale, self._penalty_scale
        weights = None
        if self._rows.weights is not None:
            weights = self._row_weights = self._rows.weights[rows].view(*index.shape, 1)
            scale, penalty_scale = scale * weights, penalty_scale * weights
        step.gradient.mul_(scale)
        if self._beta is not None:
            self._weigh_divergence(self._beta, values, losses, weights, progress)
        if self._latent_l1:
            torch.sign(step.latents, out=step.latent_gradient).mul_(penalty_scale)
        elif self._beside is not None:
            self._hold_to_path(*self._beside, weights)
        step.backward()

    def bounded(self, progress: float) -> bool:
        """Whether outputs are kept within the bounds of the rows."""
        return progress >= self._bounded_from

    def _hold_to_path(self, beside: Tensor, scale: Tensor, weights: Tensor | None) -> None:
        """Set the gradient of the squared error of what the decoder's path alone gives.

        What PCA misses is orthogonal to its axes, so that only what the encoder adds counts.
        """
        scale = scale if weights is None else scale * weights
        torch.mul(beside, scale, out=self.step.latent_gradient)

    def seen(self) -> Seen:
        """The rows that were gathered last."""
        rows = self._clean
        if self._observed is not None:
            rows = rows.masked_fill(self._observed == 0.0, math.nan)
        return Seen(rows, self._row_weights)

    def _weigh_divergence(
        self, beta: float, values: Tensor, losses: Tensor, weights: Tensor | None, progress: float
    ) -> None:
        """Turn the losses of rows into variational bounds, and set the gradient of the divergence.

        This is the bound's gradient times the dispersion, because all gradients are in units of
        the loss.
        """
        dispersion, posterior = self._dispersion, self.step.posterior
        weights = losses.new_ones(1, 1, 1) if weights is None else weights
        if n_numbers := self._loss.n_numbers(values):
            # The noise of numbers; that of categories is in their probabilities.
            own, n_cells = losses, self._row_cells
            if n_numbers < values.shape[-1]:
                own = values[..., :n_numbers].sum(-1)
                n_cells = n_numbers * self._rows.observed_share
            mean = (own * weights[..., 0]).mean(1, True) / weights.mean(1) / n_cells
            rate = torch.where(dispersion == 0, 1.0, DISPERSION_RATE).to(mean.dtype)
            dispersion.lerp_(self._loss.dispersion(mean).to(dispersion.dtype), rate)
        else:
            dispersion.fill_(1.0)
        losses.copy_(self._loss.surprises(values, self._observed, dispersion))
        self._loss.to_surprise(self.step.gradient, dispersion)
        # The divergence counts in full from the first step on, so that losses can be compared.
        losses.add_(posterior.divergence(), alpha=beta)
        share = min(1.0, progress / self._warm_up) if self._warm_up else 1.0
        size = losses.shape[1] * self._row_cells
        scale = dispersion[..., None] * (beta * share / size)
        posterior.divergence_gradient.copy_(weights * scale)
