"""Sparse features: 1,000 latents, of which 25 are kept, as features of a linear classifier.

    python examples/benchmarks/sparse.py
    python examples/benchmarks/sparse.py --only dense --set max_epochs=5

MNIST. Fitted without labels on the 60,000 training images; logistic regression
(``C=0.1``) on all their labels; errors on the 10,000 test images. Makhzani and Frey (2013)
report 1.35 % with as many latents. As in their paper, the classifier also gets more latents than
training keeps. "dense" has no hidden layer, like theirs; "conv" reconstructs images from moved,
turned and scaled ones. Prints Markdown.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from features import SETS, Images
from options import DATA, add_settings, words
from sklearn.linear_model import LogisticRegression

from skae import AutoencoderTransformer, DenoisingAutoencoder

KEPT = (25, 50, 75, 100)
SPARSE = {"n_components": 1000, "n_nonzero_coefs": 25, "random_state": 0}
CONTENDERS = {
    "dense": AutoencoderTransformer(hidden_layer_sizes=(), max_epochs=20, **SPARSE),
    "conv": DenoisingAutoencoder(
        network="conv",
        hidden_layer_sizes=(32, 64, 128),
        normalization="batch",
        noise="affine",
        noise_level=0.2,
        max_epochs=14,
        precision="bfloat16",
        **SPARSE,
    ),
}


def errors(autoencoder, train: np.ndarray, test: np.ndarray, images: Images) -> list[str]:
    """Latents in use, and the errors of the classifier on test and training images."""
    latents = autoencoder.transform(train)
    latents /= (size := latents[latents != 0].std())
    classifier = LogisticRegression(C=0.1, max_iter=300).fit(latents, images.y_train)
    wrong = 1 - classifier.score(autoencoder.transform(test) / size, images.y_test)
    learned = 1 - classifier.score(latents, images.y_train)
    return [f"{np.count_nonzero(latents.any(axis=0))}", f"{wrong:.2%}", f"{learned:.2%}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA / "images")
    parser.add_argument("--only", type=words(CONTENDERS), default=list(CONTENDERS))
    add_settings(parser)
    options = parser.parse_args()
    images = SETS["mnist"](options.data)
    train, test = (X.reshape(-1, 28, 28) for X in (images.X_train, images.X_test))
    print("| network | fit | latents kept | in use | test error | training error |")
    print("|---|" + "---:|" * 5)
    for name in options.only:
        start = time.perf_counter()
        autoencoder = CONTENDERS[name].set_params(**dict(options.set)).fit(train)
        seconds = time.perf_counter() - start
        for n_kept in KEPT:
            figures = errors(autoencoder.with_n_nonzero_coefs(n_kept), train, test, images)
            print(f"| {name} | {seconds:.0f} s | {n_kept} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
