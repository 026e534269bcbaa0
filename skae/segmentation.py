"""PixelClassifier: segmentation by a classifier on the features of pixels."""

from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skae._data.convert import from_caller, image_shape_of
from skae._data.types import FloatArray, MatrixLike, RandomState
from skae._estimators.sklearn_private import (
    HasMethods,
    Interval,
    check_parameters,
    refuse_booleans,
)
from skae._networks.conv import SIGNAL_NETWORKS

__all__ = ["PixelClassifier"]


class PixelClassifier(ClassifierMixin, BaseEstimator):
    """Classify every pixel of an image by its features from an autoencoder.

    The autoencoder learns from all pixels without labels, the classifier from the
    labeled ones, which may be few: some strokes of a pen in one image.

    Parameters
    ----------
    autoencoder : estimator
        A :class:`~skae.DenoisingAutoencoder` with a ``patch_size``, or one of
        ``network="conv"`` or ``"unet"``. It is cloned and fitted on the images; wrap a
        fitted one in :class:`sklearn.frozen.FrozenEstimator` to keep it.
    classifier : classifier, default=None
        With ``fit`` and ``predict_proba``. None is a
        :class:`~sklearn.ensemble.RandomForestClassifier` of 100 trees.
    n_pixels : int or None, default=100000
        Most labeled pixels to fit the classifier on, drawn at random. None takes all.
    random_state : int, RandomState instance or None, default=None
        Seed of the draw and of the default classifier.

    Attributes
    ----------
    autoencoder_ : estimator
        The fitted autoencoder.
    classifier_ : classifier
        The fitted classifier.
    classes_ : ndarray of shape (n_classes,)
        The labels, without 0.

    See Also
    --------
    skae.AutoencoderTransformer.pixel_features : The features alone.

    Examples
    --------
    >>> import numpy as np
    >>> from skae import AutoencoderTransformer
    >>> from skae.segmentation import PixelClassifier
    >>> rng = np.random.default_rng(0)
    >>> images = rng.normal(size=(20, 16, 16))
    >>> images[:, :, 8:] += 5
    >>> masks = np.zeros((20, 16, 16), dtype=int)
    >>> masks[0, 3, :4], masks[0, 5, 12:] = 1, 2
    >>> autoencoder = AutoencoderTransformer(network="conv", max_epochs=2, random_state=0)
    >>> classifier = PixelClassifier(autoencoder, random_state=0).fit(images, masks)
    >>> classifier.predict(images)[7, 0, [0, 15]].tolist()
    [1, 2]
    >>> classifier.predict_proba(images[:1]).shape
    (1, 16, 16, 2)
    >>> classifier.score(images, masks)
    1.0
    """

    _parameter_constraints = {
        "autoencoder": [HasMethods(["fit", "pixel_features"])],
        "classifier": [HasMethods(["fit", "predict_proba"]), None],
        "n_pixels": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state"],
    }

    autoencoder_: Any
    classifier_: Any
    classes_: NDArray[Any]

    def __init__(
        self,
        autoencoder: Any,
        classifier: Any = None,
        *,
        n_pixels: int | None = 100_000,
        random_state: RandomState = None,
    ) -> None:
        self.autoencoder = autoencoder
        self.classifier = classifier
        self.n_pixels = n_pixels
        self.random_state = random_state

    def fit(self, X: MatrixLike, y: ArrayLike) -> Self:
        """Fit the autoencoder on the images, and the classifier on the labeled pixels.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or \
                (n_samples, height, width, channels)
            Images.
        y : array-like of int, shape (n_samples, height, width)
            Label of each pixel; 0 is unlabeled, as in scikit-image's trainable
            segmenter.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If the masks have another shape than the images, or no label, or if the
            autoencoder takes signals.
        """
        check_parameters(self)
        refuse_booleans(self)
        if getattr(self.autoencoder, "network", None) in SIGNAL_NETWORKS:
            raise ValueError(
                f"autoencoder={self.autoencoder!r} takes signals, but PixelClassifier labels the "
                f"pixels of images. Pass one with another network, or fit a classifier of your "
                f"own on what its pixel_features returns."
            )
        X, masks = self._checked(X, y)
        rng = check_random_state(self.random_state)
        drawn = self._drawn(masks, rng)
        autoencoder = clone(self.autoencoder).fit(X, None)
        classifier = RandomForestClassifier(100, random_state=rng)
        if self.classifier is not None:
            classifier = clone(self.classifier)
        features = []
        for image, chosen in zip(X, drawn, strict=True):
            if len(chosen):
                pixels = autoencoder.pixel_features(np.asarray(image)[None])[0]
                features.append(pixels.reshape(masks[0].size, -1)[chosen])
        labels = [mask.ravel()[chosen] for mask, chosen in zip(masks, drawn, strict=True)]
        classifier.fit(np.concatenate(features), np.concatenate(labels))
        self.autoencoder_, self.classifier_ = autoencoder, classifier
        self.classes_ = classifier.classes_
        return self

    def predict_proba(self, X: MatrixLike) -> FloatArray:
        """Probability of each label for each pixel.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or \
                (n_samples, height, width, channels)
            Images.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, height, width, n_classes)
            In the order of ``classes_``.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError
            If ``X`` holds no images.
        """
        check_is_fitted(self)
        X = _images_of(X)
        return np.stack([self._probabilities(image) for image in X])

    def predict(self, X: MatrixLike) -> NDArray[Any]:
        """Label of each pixel.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or \
                (n_samples, height, width, channels)
            Images.

        Returns
        -------
        labels : ndarray of shape (n_samples, height, width)
            Never 0.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError
            If ``X`` holds no images.
        """
        check_is_fitted(self)
        X = _images_of(X)
        return np.stack([self.classes_[self._probabilities(image).argmax(axis=-1)] for image in X])

    def score(self, X: MatrixLike, y: ArrayLike, sample_weight: Any = None) -> float:
        """Share of the labeled pixels that are predicted as labeled.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or \
                (n_samples, height, width, channels)
            Images.
        y : array-like of int, shape (n_samples, height, width)
            Label of each pixel; 0 is unlabeled.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each image.

        Returns
        -------
        score : float
            Accuracy; higher is better.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError
            If the masks have another shape than the images, or no label, or if there is
            not a weight for each image.
        """
        check_is_fitted(self)
        X, masks = self._checked(X, y)
        weights = np.ones(len(masks))
        if sample_weight is not None:
            weights = np.asarray(from_caller(sample_weight, "sample_weight"))
        if weights.shape != (len(masks),):
            raise ValueError(
                f"sample_weight must hold a weight for each of the {len(masks)} images, got shape "
                f"{weights.shape}."
            )
        labeled = (masks != 0) * weights[:, None, None]
        return float(((self.predict(X) == masks) * labeled).sum() / labeled.sum())

    def _probabilities(self, image: Any) -> FloatArray:
        features = self.autoencoder_.pixel_features(np.asarray(image)[None])[0]
        shape = features.shape[:2]
        probabilities = self.classifier_.predict_proba(features.reshape(shape[0] * shape[1], -1))
        return probabilities.reshape(*shape, -1)

    def _checked(self, X: MatrixLike, y: ArrayLike) -> tuple[Any, NDArray[Any]]:
        """Images and their masks."""
        X, masks = _images_of(X), np.asarray(from_caller(y, "y"))
        shape = tuple(X.shape)
        if masks.shape != shape[:3] or len(shape) < 3 or masks.dtype.kind not in "iub":
            raise ValueError(
                f"y must hold an integer label for each pixel, 0 where there is none, of shape "
                f"(n_samples, height, width) = {shape[:3]}, got {masks.dtype} of shape "
                f"{masks.shape}."
            )
        if len(labels := np.setdiff1d(masks, 0)) < 1:
            raise ValueError(f"y must label some pixels by other numbers than 0, got {labels}.")
        return X, masks

    def _drawn(self, masks: NDArray[Any], rng: np.random.RandomState) -> list[NDArray[Any]]:
        """Places of the labeled pixels to fit on, an array an image."""
        places = np.flatnonzero(masks)
        if self.n_pixels is not None and len(places) > self.n_pixels:
            places = np.sort(rng.choice(places, self.n_pixels, replace=False))
        image, place = np.divmod(places, masks[0].size)
        return [place[image == i] for i in range(len(masks))]


def _images_of(X: MatrixLike) -> Any:
    """Images of one size, converted once."""
    X = from_caller(X)
    if image_shape_of(X) is None or len(X) == 0:
        raise ValueError(
            f"X must hold images, (n_samples, height, width[, channels]), at least one, got shape "
            f"{tuple(X.shape)}."
        )
    return X
