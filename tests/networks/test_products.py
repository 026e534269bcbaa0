"""Products whose bits depend neither on the number of rows nor on that of threads."""

import numpy as np
import pytest
import torch

from skae import AutoencoderTransformer, DenoisingAutoencoder
from skae._networks.products import ROW_BLOCK, RowProduct, by_blocks
from skae._runtime.device import computing

RNG = np.random.default_rng(0)


def _drawn(*shape, dtype=torch.float64):
    return torch.from_numpy(RNG.normal(size=shape)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 8), (2, 3), (20, 128), (257, 256), (300, 7), (401, 16), (784, 256)]
)
def test_rows_have_the_same_bits_in_any_number_of_blocks(dtype, n_members, shape):
    n_inputs, n_outputs = shape
    bias, weight = (_drawn(n_members, n_outputs, width, dtype=dtype) for width in (1, n_inputs))
    product, rows = RowProduct(bias.mT, weight), _drawn(n_members, 640, n_inputs, dtype=dtype)
    with computing(rows.device, 0.0):
        whole = product(rows)
        for start, stop in ((0, 16), (16, 48), (0, 128), (160, 640)):
            part = product(rows[:, start:stop].contiguous())
            np.testing.assert_array_equal(part, whole[:, start:stop])
    np.testing.assert_allclose(
        whole, rows @ weight.mT + bias.mT, rtol=1e-4, atol=1e-3 if dtype == torch.float32 else 1e-9
    )


@pytest.mark.parametrize("n_rows", [5, ROW_BLOCK, 3 * ROW_BLOCK])
def test_blocks_give_the_product(n_rows):
    x, weight, bias = _drawn(2, n_rows, 7), _drawn(2, 7, 3), _drawn(2, 1, 3)
    np.testing.assert_allclose(by_blocks(x, weight), x @ weight, atol=1e-12)
    np.testing.assert_allclose(by_blocks(x, weight, bias), x @ weight + bias, atol=1e-12)


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("estimator", [AutoencoderTransformer, DenoisingAutoencoder])
def test_large_layers_have_the_same_bits_on_any_number_of_threads(estimator, precision):
    rows = RNG.normal(size=(600, 700)) @ RNG.normal(size=(700, 700))
    found, before = [], torch.get_num_threads()
    for threads in (1, 2, 3, 8):
        torch.set_num_threads(threads)
        autoencoder = estimator(
            hidden_layer_sizes=(300, 20), n_components=5, batch_size=300, max_epochs=1,
            precision=precision, random_state=0, device="cpu",
        ).fit(rows)  # fmt: skip
        found.append((autoencoder.loss_curve_, autoencoder.transform(rows)))
    torch.set_num_threads(before)
    for loss, latents in found[1:]:
        assert loss == found[0][0]
        np.testing.assert_array_equal(latents, found[0][1])
