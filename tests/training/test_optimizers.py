"""Optimizers against torch.optim, fused and written out."""

import pytest
import torch

from skae._training.optimizers import OPTIMIZERS, Optimizer

RATE, DECAY = 0.01, 0.1


def _reference(name, parameter):
    if name == "sgd":
        options = {"momentum": 0.9, "nesterov": True}
        return torch.optim.SGD([parameter], lr=RATE, weight_decay=DECAY, **options)
    cls = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    return cls([parameter], lr=RATE, weight_decay=DECAY)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("shared", [True, False], ids=["fused", "written out"])
def test_steps_equal_torch_and_spare_the_biases(name, shared):
    rng = torch.Generator().manual_seed(0)
    start = torch.randn(12, generator=rng, dtype=torch.float64)
    slopes = torch.randn(5, 12, generator=rng, dtype=torch.float64)
    expected = start[:8].clone().requires_grad_()
    reference = _reference(name, expected)
    undecayed = start[8:].clone().requires_grad_()
    plain = _reference(name, undecayed)
    plain.param_groups[0]["weight_decay"] = 0.0

    parameters, gradients = start.clone(), torch.zeros(12, dtype=torch.float64)
    rates = RATE if shared else torch.full((12,), RATE, dtype=torch.float64)
    decays = DECAY if shared else torch.full((12,), DECAY, dtype=torch.float64)
    ours = Optimizer(name, parameters, gradients, {}, rates, decays, n_decayed=8)
    for count, slope in enumerate(slopes, start=1):
        gradients.copy_(slope)
        ours.step(count, factor=1.0)
        expected.grad, undecayed.grad = slope[:8].clone(), slope[8:].clone()
        reference.step()
        plain.step()
    torch.testing.assert_close(parameters[:8], expected.detach(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(parameters[8:], undecayed.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_tell_that_weights_have_changed(name):
    # Predictions keep copies of weights until then.
    parameters = torch.zeros(12)
    before = parameters._version
    optimizer = Optimizer(name, parameters, torch.ones(12), {}, RATE, 0.0, n_decayed=8)
    optimizer.step(1, factor=1.0)
    assert parameters._version > before
