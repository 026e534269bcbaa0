"""The written-out forward and backward passes against autograd, in float64."""

import itertools

import pytest
import torch

from skae._networks.activations import ACTIVATIONS
from skae._networks.dense import DenseNetwork, DenseSpec, split
from skae._networks.dense_step import DenseStep, dropout_table
from skae._networks.factory import make_step
from skae._networks.modules import ModuleNetwork, ModuleSpec
from skae._runtime.randomness import RandomTable, table_offsets
from skae._training.losses import LOSSES

CPU = torch.device("cpu")
LATENTS = [(3,), (4, 4), (4, 2)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rate_of_dropout_is_the_one_asked_for_in_half_precision_too(dtype):
    like = torch.empty(1, 1, 4, dtype=dtype)
    dropped = dropout_table(0.001, like)._values == 0
    assert dropped.double().mean() == pytest.approx(0.001, abs=1e-4)


def _network(spec):
    network = DenseNetwork.initialize(spec, tuple(range(spec.n_members)), torch.float64, CPU)
    rng = torch.Generator().manual_seed(0)
    noise = torch.empty_like(network.parameters).uniform_(-0.3, 0.3, generator=rng)
    network.parameters.add_(noise)
    return network


def _dropout_mask(spec, i, offsets, width):
    out = torch.empty(len(offsets), width, dtype=torch.float64)
    table = dropout_table(spec.dropout, out[None])
    return table.rows(table_offsets(offsets, i), out)


def _reference(spec, flat, x, offsets):
    """The same network in plain differentiable torch."""
    k, n, _ = x.shape
    latents = None
    for i, layer in enumerate(split(spec, flat)):
        x = x @ layer.weight.transpose(1, 2) + layer.bias
        if i == spec.depth - 1:
            if spec.activated:
                x = ACTIVATIONS[spec.activation].module()(x)
            sizes = torch.tensor(spec.n_components)[:, None, None]
            allowed = (torch.arange(spec.n_latents) < sizes).expand(k, n, -1)
            x = x * allowed
            if spec.n_nonzero is not None:
                ranked = x.detach().masked_fill(~allowed, -torch.inf)
                floor = ranked.sort(dim=-1, descending=True).values[..., spec.n_nonzero - 1, None]
                x = x * ((ranked >= floor) & allowed)
            latents = x
        elif spec.is_hidden(i):
            if spec.normalization:
                axis = 1 if spec.normalization == "batch" else 2
                variance, mean = torch.var_mean(x, axis, keepdim=True, correction=0)
                x = (x - mean) / (variance + 1e-5).sqrt() * layer.gain + layer.shift
            x = ACTIVATIONS[spec.activation].module()(x)
            if spec.dropout:
                mask = _dropout_mask(spec, i, offsets, x.shape[2])
                x = x * mask.view(x.shape)
    return latents, x


# By default each loss and each activation once, all pairs among the slow ones.
PAIRS = [
    pytest.param(
        activation, loss, marks=[pytest.mark.slow] * (activation != "silu" and loss != "huber")
    )
    for activation in ACTIVATIONS
    for loss in LOSSES
]


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "loss"), PAIRS)
def test_gradient_equals_autograd_for_every_combination(activation, loss):
    options = itertools.product([None, "batch", "layer"], [0.0, 0.3], [None, 2], LATENTS)
    for normalization, dropout, n_nonzero, latents in options:
        spec = DenseSpec(7, (6, 5), latents, activation, normalization, dropout, n_nonzero)
        _check_gradient(spec, LOSSES[loss])


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_gradient_of_activated_latents_equals_autograd(activation):
    for hidden, latents in itertools.product([(), (6,)], LATENTS):
        spec = DenseSpec(7, hidden, latents, activation, activated=True)
        _check_gradient(spec, LOSSES["squared_error"])


def _check_gradient(spec, loss):
    network = _network(spec)
    gradients = torch.empty_like(network.parameters)
    step = DenseStep(network, gradients, 9, torch.float64, latent_penalty=True)
    rng = torch.Generator().manual_seed(1)
    step.input.uniform_(-2, 2, generator=rng)
    step.offsets.random_(RandomTable.SIZE, generator=rng)
    target = torch.empty_like(step.input).uniform_(0, 1, generator=rng)
    observed = (torch.empty_like(target).uniform_(generator=rng) < 0.8).double()
    step.latent_gradient.uniform_(-1, 1, generator=rng)

    step.forward()
    loss.slope(step.output, target, step.gradient)
    step.gradient.mul_(observed).mul_(loss.scale)
    step.backward()

    flat = network.parameters.clone().requires_grad_()
    latents, output = _reference(spec, flat, step.input, step.offsets)
    torch.testing.assert_close(step.output, output.detach())
    total = (loss.value(output, target) * observed).sum()
    total = total + (latents * step.latent_gradient).sum()
    expected = torch.autograd.grad(total, flat)[0]
    torch.testing.assert_close(gradients, expected, rtol=1e-9, atol=1e-10)


def test_overwritten_latents_are_decoded_and_count_as_what_they_were():
    spec = DenseSpec(7, (6, 5), (4,), "silu")
    dense = _network(spec)
    with torch.no_grad():
        encoder, decoder = dense.modules()
    module = ModuleNetwork(
        ModuleSpec(lambda *_: (encoder, decoder), (7,), 4, None, False), torch.float64, CPU
    )
    x = torch.linspace(-2, 2, 63, dtype=torch.float64).view(1, 9, 7)
    slope = x.cos()
    found = []
    for network in (dense, module):
        gradients = torch.empty_like(network.parameters)
        step = make_step(network, gradients, 9, torch.float64)
        step.controls.on_latents = torch.Tensor.round_
        step.input.copy_(x)
        step.forward()
        torch.testing.assert_close(step.latents, network.encode(x[0]).detach().round())
        torch.testing.assert_close(step.output, network.decode(step.latents[0]).detach())
        step.gradient.copy_(slope)
        step.backward()
        found.append(gradients.norm())
    flat = dense.parameters.clone().requires_grad_()
    y = x
    for i, layer in enumerate(split(spec, flat)):
        y = y @ layer.weight.transpose(1, 2) + layer.bias
        if i == spec.depth - 1:
            y = y + (y.round() - y).detach()
        elif spec.is_hidden(i):
            y = ACTIVATIONS["silu"].module()(y)
    expected = torch.autograd.grad((y * slope).sum(), flat)[0].norm()
    torch.testing.assert_close(torch.stack(found), expected.expand(2), rtol=1e-9, atol=0)


@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
@torch.no_grad()
def test_modules_compute_what_the_stack_computes(normalization):
    spec = DenseSpec(7, (6, 5), (4, 2), "gelu", normalization, 0.1)
    network = _network(spec)
    x = torch.linspace(-2, 2, 70, dtype=torch.float64).view(10, 7)
    codes = network.encode(x)
    outputs = network.decode(codes)
    for member, size in enumerate(spec.n_components):
        encoder, decoder = network.modules(member)
        torch.testing.assert_close(encoder(x), codes[member, :, :size])
        torch.testing.assert_close(decoder(codes[member, :, :size]), outputs[member])


@torch.no_grad()
def test_members_start_from_the_weights_that_they_get_alone():
    stack = DenseNetwork.initialize(DenseSpec(7, (6,), (4, 2)), (5, 9), torch.float64, CPU)
    alone = DenseNetwork.initialize(DenseSpec(7, (6,), (2,)), (9,), torch.float64, CPU)
    x = torch.linspace(-1, 1, 21, dtype=torch.float64).view(3, 7)
    torch.testing.assert_close(stack.decode(stack.encode(x))[1], alone.decode(alone.encode(x))[0])


def test_half_precision_products_are_close_to_full_ones():
    spec = DenseSpec(20, (16,), (8,), "relu")
    network = DenseNetwork.initialize(spec, (0,), torch.float32, CPU)
    gradients = [torch.empty_like(network.parameters) for _ in range(2)]
    for dtype, gradient in zip([torch.float32, torch.bfloat16], gradients, strict=True):
        step = DenseStep(network, gradient, 32, dtype)
        step.input.copy_(torch.linspace(-1, 1, 640).view(1, 32, 20))
        step.forward()
        step.gradient.copy_(step.output - step.input)
        step.backward()
    cosine = torch.nn.functional.cosine_similarity(gradients[0], gradients[1], dim=0)
    assert cosine > 0.999
