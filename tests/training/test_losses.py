"""Losses against values worked by hand and against autograd."""

import math

import numpy as np
import pytest
import torch

from skae._data.categories import Categories
from skae._training.losses import LOSSES, loss_of

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


CENTER = torch.tensor([0.5, 0.3, 0.2, 0.9, 0.1], dtype=torch.float64)
SCALE = torch.tensor([0.8, 0.8, 0.8, 0.5, 0.5], dtype=torch.float64)
CATEGORIES = Categories((3, 2), CENTER, SCALE)
LOGITS = torch.tensor([[0.3, 1.0, -1.0, 0.5, 2.0, 0.1]], dtype=torch.float64)
PRESENT = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0], dtype=torch.float64)
MIXED_TARGET = torch.cat([torch.tensor([1.0]).double(), (PRESENT - CENTER) / SCALE])[None]


def _entropy(p):
    return -(p * np.log(p)).sum()


def test_loss_of_a_category_is_its_cross_entropy_per_what_its_shares_leave():
    value = loss_of("squared_error", CATEGORIES).value(LOGITS, MIXED_TARGET).numpy()[0]
    z, p, s = LOGITS.numpy()[0, 1:], CENTER.numpy(), SCALE.numpy()
    first = np.log(np.exp(z[:3]).sum()) - z[1]
    second = np.log(np.exp(z[3:]).sum()) - z[3]
    weights = [
        (p[part] * (1 - p[part])).sum() / s[part][0] ** 2 / _entropy(p[part])
        for part in (slice(0, 3), slice(3, 5))
    ]
    expected = [0.49, 0, first * weights[0], 0, second * weights[1], 0]
    np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-12)


def test_who_knows_the_shares_alone_has_the_variance_as_loss():
    logits = torch.cat([torch.zeros(1).double(), CENTER.log()])[None]
    loss, mean = loss_of("squared_error", CATEGORIES), torch.zeros(6, dtype=torch.float64)
    units = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    for j, p in enumerate(CENTER[:3]):
        present = torch.tensor([*units[j], 1, 0], dtype=torch.float64)
        target = torch.cat([torch.zeros(1).double(), (present - CENTER) / SCALE])[None]
        mean += p * loss.value(logits, target)[0]
    variance = (CENTER * (1 - CENTER) / SCALE**2)[:3].sum()
    torch.testing.assert_close(mean[1:4].sum(), variance)


@pytest.mark.parametrize("name", LOSSES)
def test_slope_with_categories_is_the_derivative_of_the_value(name):
    loss = loss_of(name, CATEGORIES)
    output = LOGITS.clone().requires_grad_()
    expected = torch.autograd.grad(loss.value(output, MIXED_TARGET).sum(), output)[0]
    slope = torch.empty_like(MIXED_TARGET)
    loss.slope(LOGITS, MIXED_TARGET, slope)
    torch.testing.assert_close(loss.scale * slope, expected)


def test_link_gives_scaled_probabilities_of_categories():
    linked = loss_of("squared_error", CATEGORIES).link(LOGITS)[0]
    probabilities = linked[1:] * SCALE + CENTER
    assert linked[0] == LOGITS[0, 0]
    torch.testing.assert_close(probabilities[:3], LOGITS[0, 1:4].softmax(0))
    torch.testing.assert_close(probabilities[3:], LOGITS[0, 4:].softmax(0))


def test_surprise_at_rows_adds_the_cross_entropy_to_that_at_numbers():
    loss, dispersion = loss_of("squared_error", CATEGORIES), torch.tensor([[0.5]]).double()
    values = loss.value(LOGITS, MIXED_TARGET)
    z = LOGITS.numpy()[0, 1:]
    entropy = np.log(np.exp(z[:3]).sum()) - z[1] + np.log(np.exp(z[3:]).sum()) - z[3]
    expected = 0.49 / 0.5 + np.log(0.5) / 2 + entropy
    np.testing.assert_allclose(loss.surprises(values, None, dispersion), [[expected]], rtol=1e-9)
    missing = torch.tensor([[False, True, True, True, False, False]])
    expected = np.log(np.exp(z[:3]).sum()) - z[1]
    found = loss.surprises(values * missing, missing, dispersion)
    np.testing.assert_allclose(found, [[expected]], rtol=1e-9)


def test_slope_of_the_surprise_is_that_of_the_loss_over_the_dispersion():
    loss, dispersion = loss_of("squared_error", CATEGORIES), torch.tensor([[0.5]]).double()
    output = LOGITS[None].clone().requires_grad_()
    total = loss.surprises(loss.value(output, MIXED_TARGET[None]), None, dispersion)
    expected = torch.autograd.grad(total.sum(), output)[0]
    slope = torch.empty_like(MIXED_TARGET[None])
    loss.slope(LOGITS[None], MIXED_TARGET[None], slope)
    loss.to_surprise(slope, dispersion)
    torch.testing.assert_close(loss.scale * slope / dispersion[..., None], expected)


def test_poisson_is_half_of_the_deviance():
    output = torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64)
    counts = torch.tensor([3.0, 0.0, 1.0], dtype=torch.float64)
    expected = [1 - 3 + 3 * math.log(3), math.e, math.exp(-2) + 2 - 1]
    np.testing.assert_allclose(LOSSES["poisson"].value(output, counts), expected)
    torch.testing.assert_close(LOSSES["poisson"].link(output), output.exp())


def _double(output, target):
    return 2.0 * (output - target) ** 2


KINDS = ("absolute_error", "poisson", _double, "absolute_error")


def test_each_column_has_its_own_loss():
    loss = loss_of(KINDS, None)
    output = torch.tensor([[0.5, 0.0, 1.0, 3.0]], dtype=torch.float64)
    target = torch.tensor([[1.0, 3.0, -1.0, 1.0]], dtype=torch.float64)
    expected = torch.tensor([[0.5, 3 * math.log(3) - 2, 8.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(loss.value(output, target), expected)
    slope = torch.empty_like(output)
    loss.slope(output, target, slope)
    expected = torch.tensor([[-1.0, -2.0, 8.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(loss.scale * slope, expected)
    expected = torch.tensor([[0.5, 1.0, 1.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(loss.link(output), expected)


def test_a_function_of_another_shape_is_refused():
    loss = loss_of(lambda output, target: (output - target).mean(), None)
    with pytest.raises(ValueError, match="must return a tensor of the shape"):
        loss.value(OUTPUT, TARGET)
