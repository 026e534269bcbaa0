"""Losses against values worked by hand and against autograd."""

import math

import numpy as np
import pytest
import torch

from skae._training.losses import LOSSES

OUTPUT = torch.tensor([0.5, -2.0, 3.0], dtype=torch.float64)
TARGET = torch.tensor([0.0, 1.0, 0.25], dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("squared_error", [0.25, 9.0, 2.75**2]),
        ("absolute_error", [0.5, 3.0, 2.75]),
        ("huber", [0.125, 2.5, 2.25]),
        (
            "log_loss",
            [
                math.log1p(math.exp(0.5)),
                math.log1p(math.exp(2.0)),
                math.log1p(math.exp(3.0)) - 0.25 * 3.0,
            ],
        ),
    ],
)
def test_value_equals_the_formula(name, expected):
    np.testing.assert_allclose(LOSSES[name].value(OUTPUT, TARGET), expected, rtol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_slope_is_the_derivative_of_the_value(name):
    loss = LOSSES[name]
    output = OUTPUT.clone().requires_grad_()
    expected = torch.autograd.grad(loss.value(output, TARGET).sum(), output)[0]
    slope = torch.empty_like(TARGET)
    loss.slope(OUTPUT, TARGET, slope)
    torch.testing.assert_close(loss.scale * slope, expected)


def test_link_gives_probabilities_for_log_loss_alone():
    torch.testing.assert_close(LOSSES["log_loss"].link(OUTPUT), torch.sigmoid(OUTPUT))
    assert LOSSES["squared_error"].link(OUTPUT) is OUTPUT
