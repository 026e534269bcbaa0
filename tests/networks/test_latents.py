"""Drawn latents: the divergence, and the gradients written out."""

import pytest
import torch
from torch import nn

from skae._networks.activations import ACTIVATIONS
from skae._networks.dense import DenseNetwork, DenseSpec, split
from skae._networks.factory import make_step
from skae._networks.latents import NormalDraws, divergence, halves
from skae._networks.modules import ModuleNetwork, ModuleSpec
from skae._runtime.randomness import RandomTable
from skae._training.losses import LOSSES

CPU = torch.device("cpu")


def wide_pair(input_shape, n_components):
    encoder = nn.Sequential(nn.Linear(input_shape[0], 16), nn.SiLU(), nn.Linear(16, 6))
    return encoder, nn.Sequential(nn.Linear(3, 16), nn.SiLU(), nn.Linear(16, input_shape[0]))


# The divergence, and the gradients written out.


def test_divergence_is_that_of_torch_and_zero_for_the_prior():
    mean = torch.randn(5, 4, 3, dtype=torch.float64)
    log_variance = torch.randn(5, 4, 3, dtype=torch.float64)
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    prior = torch.distributions.Normal(torch.zeros_like(mean), 1.0)
    expected = torch.distributions.kl_divergence(posterior, prior).sum(-1)
    torch.testing.assert_close(divergence(mean, log_variance), expected)
    assert divergence(torch.zeros(1, 3), torch.zeros(1, 3)) == 0.0


def _decoded(spec, layers, x):
    for i, layer in enumerate(layers, spec.depth):
        x = x @ layer.weight.transpose(1, 2) + layer.bias
        if spec.is_hidden(i):
            x = ACTIVATIONS[spec.activation].module()(x)
    return x


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("scale", [1.0, 200.0], ids=["usual", "variances cut off"])
@pytest.mark.parametrize("n_members", [1, 2])
def test_gradient_equals_autograd(loss, scale, n_members):
    spec = DenseSpec(7, (6, 5), (3,) * n_members, "tanh", variational=True)
    network = DenseNetwork.initialize(spec, tuple(range(n_members)), torch.float64, CPU)
    network.layers[spec.depth - 1].weight.mul_(scale)
    gradients = torch.empty_like(network.parameters)
    step = make_step(network, gradients, 9, torch.float64, latent_penalty=True)
    rng = torch.Generator().manual_seed(1)
    step.input.uniform_(-2, 2, generator=rng)
    step.offsets.random_(RandomTable.SIZE, generator=rng)
    step.latent_gradient.uniform_(-1, 1, generator=rng)
    step.posterior.divergence_gradient.uniform_(0, 1, generator=rng)
    target = torch.empty_like(step.input).uniform_(0, 1, generator=rng)
    step.forward()
    LOSSES[loss].slope(step.output, target, step.gradient)
    step.gradient.mul_(LOSSES[loss].scale)
    step.backward()

    noise = torch.empty_like(step.latents)
    NormalDraws(3, noise).fill(step.offsets, noise)
    flat = network.parameters.clone().requires_grad_()
    layers, x = split(spec, flat), step.input
    for i, layer in enumerate(layers[: spec.depth]):
        x = x @ layer.weight.transpose(1, 2) + layer.bias
        x = torch.tanh(x) if spec.is_hidden(i) else x
    mean, log_variance = x[..., :3], x[..., 3:].clamp(-20, 20)
    assert bool((log_variance.abs() == 20).any()) == (scale > 1)
    z = mean + torch.exp(log_variance / 2) * noise
    output = _decoded(spec, layers[spec.depth :], z)
    torch.testing.assert_close(step.output, output.detach())
    torch.testing.assert_close(step.latents, z.detach())
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(-1)
    torch.testing.assert_close(step.posterior.divergence(), kl.detach())
    total = LOSSES[loss].value(output, target).sum() + (z * step.latent_gradient).sum()
    total = total + (kl * step.posterior.divergence_gradient[..., 0]).sum()
    expected = torch.autograd.grad(total, flat)[0]
    torch.testing.assert_close(gradients, expected, rtol=1e-9, atol=1e-10)


def test_step_of_modules_draws_and_counts_what_the_dense_one_does():
    dense = DenseNetwork.initialize(
        DenseSpec(7, (16,), (3,), "silu", variational=True), (0,), torch.float64, CPU
    )
    modules = ModuleNetwork(ModuleSpec(wide_pair, (7,), 3, variational=True), torch.float64, CPU)
    parameters = list(modules.pair.parameters())
    for i, layer in enumerate(dense.layers):
        parameters[2 * i].data.copy_(layer.weight[0])
        parameters[2 * i + 1].data.copy_(layer.bias[0, 0])
    results = []
    for network in (dense, modules):
        gradients = torch.zeros_like(network.parameters)
        step = make_step(network, gradients, 9, torch.float64)
        step.input.copy_(torch.linspace(-1, 1, 63).view(1, 9, 7))
        step.offsets.copy_(torch.arange(9) * 1000)
        step.posterior.divergence_gradient.fill_(0.3)
        step.forward()
        torch.sub(step.output, step.input, out=step.gradient)
        step.backward()
        results.append([step.latents, step.output, step.posterior.divergence(), gradients.norm()])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_halves_are_cut_off_where_exp_would_overflow():
    _, log_variance = halves(torch.tensor([[0.0, 1e9], [0.0, -1e9]]))
    assert log_variance.tolist() == [[20.0], [-20.0]]
