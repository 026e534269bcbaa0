"""Estimators with parameters of a subclass's own, as scikit-learn lets them be."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.utils._param_validation import Options

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)
from skae.codec import LatentCodec
from skae.segmentation import PixelClassifier

X = load_digits().data[:40]
FEW = {"max_epochs": 1, "random_state": 0, "n_components": 2, "hidden_layer_sizes": (8,)}


class Transformer(AutoencoderTransformer):
    def __init__(self, *, extra=1.0, flag=True, n_components="auto", hidden_layer_sizes="auto",
                 max_epochs="auto", random_state=None):  # fmt: skip
        super().__init__(
            n_components=n_components,
            hidden_layer_sizes=hidden_layer_sizes,
            max_epochs=max_epochs,
            random_state=random_state,
        )
        self.extra = extra
        self.flag = flag


def _subclass(base, names=("extra", "flag")):
    """A subclass with parameters more than its base, of all values."""

    class Own(base):
        @classmethod
        def _get_param_names(cls):
            return [*base._get_param_names(), *names]

        def __init__(self, *args, extra=True, flag=False, **params):
            super().__init__(*args, **params)
            self.extra = extra
            self.flag = flag

    return Own


@pytest.mark.parametrize("value", [1.0, True, None, "text", np.True_, [1, 2]], ids=repr)
def test_a_parameter_without_constraints_is_not_validated(value):
    model = Transformer(extra=value, flag=value, **FEW).fit(X)
    model.partial_fit(X).fit_density(X)
    assert clone(model).fit(X).transform(X).shape == (40, 2)
    search = GridSearchCV(Transformer(**FEW), {"extra": [value], "n_components": [1, 2]}, cv=2)
    assert search.fit(X).best_params_["extra"] is value


@pytest.mark.parametrize(
    "base",
    [
        AutoencoderTransformer,
        DenoisingAutoencoder,
        VariationalAutoencoder,
        AutoencoderAnomalyDetector,
    ],
)
def test_each_estimator_has_subclasses(base):
    model = _subclass(base)(**FEW).fit(X)
    expected = base(**FEW).fit(X)
    np.testing.assert_array_equal(model.score_samples(X), expected.score_samples(X))


def test_codecs_and_classifiers_have_subclasses():
    pytest.importorskip("constriction")
    codec = _subclass(LatentCodec)(AutoencoderTransformer(**FEW), max_epochs=0).fit(X)
    assert codec.decode(codec.encode(X)).shape == X.shape
    images = X.reshape(-1, 8, 8)
    masks = (images > 8) + 1
    autoencoder = DenoisingAutoencoder(patch_size=4, **FEW)
    model = _subclass(PixelClassifier)(autoencoder, random_state=0, n_pixels=500)
    assert model.fit(images, masks).predict(images[:1]).shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("constraint", "takes"),
    [
        (["boolean"], True),
        (["verbose"], True),
        ([bool], True),
        ([Options(object, {True, None})], True),
        ("no_validation", True),
        ([int], False),
        ([int, None], False),
    ],
    ids=["boolean", "verbose", "bool", "options", "none", "int", "int or none"],
)
def test_own_constraints_tell_whether_a_boolean_is_one(constraint, takes):
    class Own(Transformer):
        _parameter_constraints = {
            **AutoencoderTransformer._parameter_constraints,
            "extra": constraint,
            "flag": "no_validation",
        }

    model = Own(extra=True, **FEW)
    if takes:
        model.fit(X)
    else:
        with pytest.raises(ValueError, match="'extra' parameter"):
            model.fit(X)


@pytest.mark.parametrize("name", ["max_epochs", "n_components", "validation_fraction"])
def test_booleans_are_still_no_numbers(name):
    with pytest.raises(ValueError, match=f"'{name}' parameter"):
        AutoencoderTransformer(**FEW | {name: True}).fit(X)
    images = X.reshape(-1, 8, 8)
    classifier = PixelClassifier(DenoisingAutoencoder(), n_pixels=True)
    with pytest.raises(ValueError, match="'n_pixels' parameter"):
        classifier.fit(images, images.astype(int))
