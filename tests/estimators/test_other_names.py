"""Parameters that are spelled as in other libraries: the error says which one is meant."""

import inspect
import pickle

import pytest
from sklearn.base import clone

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderImputer,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)
from skae._estimators.other_names import MEANT

CLASSES = [
    AutoencoderAnomalyDetector,
    AutoencoderImputer,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
]
each_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


@each_class
@pytest.mark.parametrize("name", MEANT)
def test_an_unknown_name_is_told_what_is_meant(cls, name):
    with pytest.raises(TypeError, match=f"{cls.__name__} has no parameter '{name}'") as told:
        cls(**{name: 1})
    assert MEANT[name] in str(told.value)


@each_class
def test_what_is_meant_is_there(cls):
    parameters = cls().get_params()
    for name, meant in MEANT.items():
        assert name not in parameters
        first = meant.split(",")[0]
        assert first in parameters or " " in first


@each_class
def test_other_unknown_names_are_errors_as_ever(cls):
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        cls(nonsense=1)


@each_class
def test_the_constructor_looks_and_copies_as_before(cls):
    parameters = inspect.signature(cls).parameters
    assert list(parameters) == list(inspect.signature(cls.__init__).parameters)[1:]
    assert {p.kind for p in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert set(parameters) == set(cls().get_params())
    estimator = cls(random_state=3)
    assert clone(estimator).random_state == pickle.loads(pickle.dumps(estimator)).random_state == 3


def test_a_subclass_may_have_such_a_name_of_its_own():
    class Own(AutoencoderTransformer):
        def __init__(self, *, alpha=1.0, n_components="auto"):
            super().__init__(n_components=n_components)
            self.alpha = alpha

    assert clone(Own(alpha=2.0)).set_params(alpha=3.0).alpha == 3.0
    with pytest.raises(TypeError, match="Own has no parameter 'solver'"):
        Own(solver="adam")
