"""Hashes of what every estimator predicts on fixed seeds, for changes of structure.

Two versions that print the same lines give the same bits on this machine.
"""

import hashlib

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.frozen import FrozenEstimator

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)
from skae.codec import LatentCodec

TABLE = load_breast_cancer().data
WINE = load_wine().data
DIGITS = load_digits()
IMAGES, ROWS = DIGITS.images[:600], DIGITS.data[:600]
HOLES = np.where(np.random.default_rng(0).random(WINE.shape) < 0.1, np.nan, WINE)
rng = np.random.default_rng(1)
WIDE = rng.normal(size=(300, 8)) @ rng.normal(size=(8, 400)) + 0.1 * rng.normal(size=(300, 400))
PHOTOS = rng.normal(size=(6, 40, 36)).cumsum(1).cumsum(2)
BIG = rng.normal(size=(9500, 6)) @ rng.normal(size=(6, 12)) + 0.1 * rng.normal(size=(9500, 12))


def line(name, *arrays):
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(np.asarray(array)).tobytes())
    print(f"{name:48s} {digest.hexdigest()[:16]}", flush=True)


def transformers():
    T, D, V = AutoencoderTransformer, DenoisingAutoencoder, VariationalAutoencoder
    few = {"max_epochs": 4, "random_state": 0}
    cases = [
        ("table", T(random_state=0, max_epochs=8), TABLE),
        ("iris default", T(random_state=0, max_epochs=30), load_iris().data),
        ("holes", T(n_components=4, **few), HOLES),
        ("digits", T(n_components=16, **few), ROWS),
        ("images", T(n_components=8, **few), IMAGES),
        ("conv", T(n_components=8, network="conv", **few), IMAGES),
        ("ordered", T(n_components=0.8, **few), TABLE),
        ("sparse", T(n_components=12, n_nonzero_coefs=3, **few), ROWS),
        ("options", T(n_components=5, loss="huber", scaling="robust", normalization="batch",
                      dropout=0.1, weight_decay=1e-3, latent_l1=1e-3, optimizer="adamw",
                      activation="gelu", **few), WINE),
        ("layer norm", T(normalization="layer", optimizer="sgd", learning_rate=0.1,
                         lr_schedule="cosine", **few), TABLE),
        ("constant", T(lr_schedule="constant", early_stopping=True, activation="tanh",
                       init="random", **few), TABLE),
        ("bfloat16", T(precision="bfloat16", init="random", **few), BIG),
        ("float64", T(precision="float64", **few), TABLE),
        ("log loss", T(loss="log_loss", **few), ROWS),
        ("wide", T(**few), WIDE),
        ("denoiser", D(**few), HOLES),
        ("denoiser affine", D(noise=("affine", "gaussian"), noise_level=(0.2, 0.1), **few), IMAGES),
        ("denoiser patches", D(patch_size=8, n_components=8, **few), PHOTOS),
        ("unet", D(network="unet", patch_size=16, noise="gaussian", hidden_layer_sizes=(8, 8),
                   **few), PHOTOS),
        ("variational", V(n_components=4, **few), TABLE),
        ("variational conv", V(n_components=4, network="conv", **few), IMAGES),
        ("variational logs", V(n_components=4, loss="log_loss", beta=0.5, **few), ROWS),
    ]  # fmt: skip
    for name, estimator, X in cases:
        estimator.fit(X)
        line(f"{name}: loss", estimator.loss_curve_)
        line(f"{name}: reconstruct", estimator.reconstruct(X))
        if "patch" in name or name == "unet":
            continue
        Z = estimator.transform(X)
        line(f"{name}: transform", Z)
        line(f"{name}: inverse", estimator.inverse_transform(Z))
        line(f"{name}: scores", estimator.score_samples(X), [estimator.score(X)])
        line(f"{name}: sample", estimator.sample(7, random_state=0))
        line(f"{name}: interpolate", estimator.interpolate(X[:3], X[3:6], steps=4))
        if name in ("table", "variational", "conv"):
            estimator.partial_fit(X)
            line(f"{name}: partial_fit", estimator.score_samples(X))
        if name == "ordered":
            line("ordered: ratios", estimator.explained_variance_ratio_)
            line("ordered: truncated", estimator.truncate(2).reconstruct(X))
        if name == "sparse":
            kept = estimator.with_n_nonzero_coefs(5)
            line("sparse: kept", kept.transform(X))
        if name == "denoiser":
            line("denoiser: impute", estimator.impute(X))
    unet = D(network="unet", patch_size=16, noise="block_masking", hidden_layer_sizes=(8, 8), **few)
    mask = np.zeros(PHOTOS.shape, dtype=bool)
    mask[:, 10:20, 10:20] = True
    line("unet: inpaint", unet.fit(PHOTOS).inpaint(PHOTOS, mask))
    line("unet: pixel features", unet.pixel_features(PHOTOS[:2]))
    patches = D(patch_size=8, n_components=8, **few).fit(PHOTOS)
    line("patches: pixel features", patches.pixel_features(PHOTOS[:1]))
    conv = T(n_components=8, network="conv", **few).fit(IMAGES)
    line("conv: pixel features", conv.pixel_features(IMAGES[:5]))
    gmm = T(n_components=3, latent_density="gmm", **few).fit(TABLE)
    line("gmm: sample", gmm.sample(9, random_state=1))
    weights = np.random.default_rng(2).integers(0, 3, len(TABLE)).astype(float)
    weighted = T(n_components=3, **few).fit(TABLE, sample_weight=weights)
    line("weights: scores", weighted.score_samples(TABLE))
    warm = T(n_components=3, warm_start=True, **few).fit(TABLE).fit(TABLE)
    line("warm start: scores", warm.score_samples(TABLE))


def detectors():
    D = AutoencoderAnomalyDetector
    few = {"max_epochs": 4, "random_state": 0}
    cases = [
        ("detector", D(random_state=0), TABLE),
        ("detector few rows", D(**few), TABLE[:50]),
        ("detector holes", D(**few), HOLES),
        ("detector many rows", D(**few), BIG),
        ("detector wide", D(**few), WIDE),
        ("detector contamination", D(contamination=0.1, **few), TABLE),
        ("detector clean", D(contamination=0, **few), TABLE),
        ("detector reconstruction", D(anomaly_score="reconstruction", **few), TABLE),
        ("detector nearest", D(anomaly_score="nearest", n_estimators=2, **few), TABLE),
        ("detector images", D(**few), IMAGES),
        ("detector images contamination", D(contamination=0.1, **few), IMAGES),
        ("detector images loss", D(anomaly_score="reconstruction", **few), IMAGES),
        ("detector conv1d", D(network="conv1d", **few), IMAGES.reshape(len(IMAGES), -1)),
        ("detector large images", D(**few), PHOTOS.repeat(8, 0) + rng.normal(size=(48, 40, 36))),
    ]
    for name, detector, X in cases:
        detector.fit(X)
        line(f"{name}: loss", detector.loss_curve_)
        line(f"{name}: scores", detector.score_samples(X[:500]), [detector.offset_])
        line(f"{name}: contributions", detector.feature_contributions(X[:20]))
        line(f"{name}: probability", detector.outlier_probability(X[:20]))
        if X.ndim == 3:
            line(f"{name}: map", detector.anomaly_map(X[:20]))
            line(f"{name}: boxes", *detector.detect(X[:20]))
        if name in ("detector", "detector images"):
            line(f"{name}: calibrated", detector.calibrate(X[:300]).score_samples(X))
            detector.partial_fit(X[:200])
            line(f"{name}: partial_fit", detector.score_samples(X))


def codec():
    X = DIGITS.images[:600].astype("uint8")
    autoencoder = AutoencoderTransformer(n_components=8, max_epochs=4, random_state=0).fit(X)
    autoencoder = FrozenEstimator(autoencoder)
    for name, options in [("codec", {}), ("codec exact", {"max_error": 0}),
                          ("codec not refined", {"max_epochs": 0})]:  # fmt: skip
        fitted = LatentCodec(autoencoder, **{"max_epochs": 3, "random_state": 0} | options).fit(X)
        data = fitted.encode(X[:100])
        # Without the marks of the codec and the checksums over them.
        line(f"{name}: bytes", np.frombuffer(data, np.uint8)[36:-12], [len(data)])
        line(f"{name}: decoded", fitted.decode(data))


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers()
    detectors()
    codec()
