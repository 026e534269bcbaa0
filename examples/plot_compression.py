"""
Bytes of an image against its error
===================================

Images of digits as bytes, by codecs of an autoencoder's latents and of principal components: the
error of images that the codecs were not fitted on, from coarse steps to fine ones. At equal error
those of the autoencoder, which is trained on for few bytes, need a tenth to a quarter less. Needs
``pip install "skae[codec,plot]"``.
"""

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator

from skae import AutoencoderTransformer
from skae.codec import LatentCodec


def curve(estimator, steps, train, test):
    """Bytes and error of a test image for each step, by codecs of a fitted estimator."""
    found = []
    for step in steps:
        codec = LatentCodec(FrozenEstimator(estimator), step=step, random_state=0).fit(train)
        data = codec.encode(test)
        error = np.sqrt(np.mean((codec.decode(data).astype(float) - test) ** 2))
        found.append((len(data) / len(test), error))
    return np.array(found).T


def main(path):
    X = load_digits().data.astype(np.uint8)
    train, test = X[:1400], X[1400:]
    # From random weights, as an autoencoder for a codec should be.
    autoencoder = AutoencoderTransformer(n_components=32, init="random", random_state=0)
    estimators = {
        "AutoencoderTransformer": (autoencoder, [1.0, 2.0, 3.0, 4.0, 6.0]),
        "PCA": (PCA(), [6.0, 8.0, 12.0, 16.0, 24.0]),
    }
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for (name, (estimator, steps)), marker in zip(estimators.items(), "os", strict=True):
        n_bytes, errors = curve(estimator.fit(train), steps, train, test)
        axis.plot(n_bytes, errors, marker=marker, label=name)
        for size, error in zip(n_bytes, errors, strict=True):
            print(f"{name}: {size:.1f} bytes an image, {error:.2f} gray levels of 16 off")
    axis.set(xlabel="bytes an image (64 pixels)", ylabel="error (of 16 gray levels)")
    axis.set_title("Unseen digits as bytes: root mean squared error", fontsize=11)
    axis.legend()
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="compression.png")
    main(parser.parse_args().output)
