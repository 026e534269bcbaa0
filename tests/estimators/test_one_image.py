"""One image without its axis of samples gets an error that says X[None]."""

import numpy as np
import pytest

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer

RNG = np.random.default_rng(0)

FEW = {"max_epochs": 1, "random_state": 0, "device": "cpu"}


@pytest.mark.parametrize("shape", [(8, 8), (4, 6, 3), (6, 6, 1)])
@pytest.mark.parametrize("cls", [AutoencoderTransformer, AutoencoderAnomalyDetector])
def test_the_error_says_what_to_pass(cls, shape):
    images = RNG.normal(size=(30, *shape))
    estimator = cls(**FEW).fit(images)
    for image in (images[0], images[0].tolist()):
        with pytest.raises(ValueError, match=r"X is one image.*X\[None\]"):
            estimator.score_samples(image)
    assert estimator.score_samples(images[0][None]).shape == (1,)


def test_what_could_be_a_row_is_one():
    images = RNG.normal(size=(30, 1, 5))
    estimator = AutoencoderTransformer(**FEW).fit(images)
    np.testing.assert_array_equal(estimator.transform(images[0]), estimator.transform(images[:1]))
    rows = AutoencoderTransformer(image_shape=(2, 3), **FEW).fit(RNG.normal(size=(30, 6)))
    with pytest.raises(ValueError, match="3 features"):
        rows.transform(np.zeros((2, 3)))
