"""Pythae's models with the network of our estimators, and a sampler: rivals in generation.py."""

import contextlib
import io
import logging
import tempfile
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from skae._training.auto import hidden_layer_sizes

MODELS = ("VAE", "RAE_GP", "RAE_L2")


class PythaeSampler:
    """A model, trained by Pythae's trainer, Adam with 1e-3, at our batch size.

    The VAE draws from its prior, the regularized ones from Pythae's mixture of ten.
    """

    def __init__(self, name, n_latents, epochs, seed):
        self.name, self.n_latents, self.epochs, self.seed = name, n_latents, epochs, seed

    def fit(self, images):
        from pythae import samplers

        images = torch.from_numpy(images[:, None].astype(np.float32) / 255.0)
        model = self._trained(images).eval()
        if self.name == "VAE":
            self.sampler = samplers.NormalSampler(model)
        else:
            self.sampler = samplers.GaussianMixtureSampler(model)
            self.sampler.fit(images)
        return self

    def sample(self, n, random_state):
        torch.manual_seed(random_state)
        np.random.seed(random_state)  # noqa: NPY002
        return self.sampler.sample(num_samples=n).numpy()[:, 0] * 255

    def _trained(self, images):
        import pythae.models
        from pythae.data.datasets import BaseDataset
        from pythae.trainers import BaseTrainer, BaseTrainerConfig

        logging.disable(logging.INFO)
        torch.manual_seed(self.seed)
        config = getattr(pythae.models, self.name + ("Config" if self.name == "VAE" else "_Config"))
        config = config(input_dim=tuple(images.shape[1:]), latent_dim=self.n_latents)
        model = getattr(pythae.models, self.name)(config, *networks(config))
        rows = BaseDataset(images, torch.zeros(len(images)))
        quiet = contextlib.redirect_stderr(io.StringIO())
        with tempfile.TemporaryDirectory() as folder, quiet:
            options = BaseTrainerConfig(
                output_dir=folder, num_epochs=self.epochs, learning_rate=1e-3, seed=self.seed,
                per_device_train_batch_size=256, no_cuda=True,
            )  # fmt: skip
            BaseTrainer(model, rows, training_config=options).train()
        return model


def networks(config):
    """Encoder and decoder as Pythae takes them, with our layers."""
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    n_pixels = int(np.prod(config.input_dim))
    sizes = (n_pixels, *hidden_layer_sizes(n_pixels))

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Flatten(), *layers(sizes))
            self.mean = nn.Linear(sizes[-1], config.latent_dim)
            self.log_variance = nn.Linear(sizes[-1], config.latent_dim)

        def forward(self, x):
            h = self.body(x)
            return ModelOutput(embedding=self.mean(h), log_covariance=self.log_variance(h))

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            body = layers((config.latent_dim, *reversed(sizes)))[:-1]
            shape = nn.Unflatten(1, config.input_dim)
            self.body = nn.Sequential(*body, nn.Sigmoid(), shape)

        def forward(self, z):
            return ModelOutput(reconstruction=self.body(z))

    return Encoder(), Decoder()


def layers(widths):
    return [module for a, b in pairwise(widths) for module in (nn.Linear(a, b), nn.SiLU())]
