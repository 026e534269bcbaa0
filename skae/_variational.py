"""VariationalAutoencoder: latents drawn from a posterior, near to a common prior."""

from sklearn.utils.validation import check_is_fitted

from skae._parameters import documented
from skae._settings import HasMethods, Interval, Real, StrOptions
from skae._transformer import AutoencoderTransformer
from skae.networks.build import Spec


@documented
class VariationalAutoencoder(AutoencoderTransformer):
    """Autoencoder that gives each row a distribution of latents, near to a common prior.

    The encoder gives mean and variance of a normal distribution, from which latents
    are drawn in training; its Kullback-Leibler divergence from the standard normal
    distribution is part of the loss (Kingma and Welling, "Auto-encoding variational
    Bayes", ICLR 2014). The losses count against it as the likelihood does whose noise
    fits them best, which is followed in training (Rybkin et al., "Simple and effective
    VAE training with calibrated decoders", ICML 2021). Neighbouring latents then decode
    to similar rows. What :meth:`transform` gives is the mean, without chance.

    Parameters
    ----------
    beta : float, default=1.0
        Weight of the divergence against the surprise at a row (Higgins et al.,
        "beta-VAE", ICLR 2017): 1 is the evidence lower bound, for data of any scale.
        Less rebuilds rows better, more brings latents nearer to the prior, and
        leaves those that are not needed without content.
    kl_warm_up : float in [0, 1], default=0.25
        Share of the training over which that weight rises from zero (Bowman et al.,
        "Generating sentences from a continuous space", CoNLL 2016), lest latents be
        given up before they are learned. :meth:`partial_fit` has the full weight.
    {latent_parameters}
    latent_density : {"prior", "gaussian", "gmm"} or estimator, default="gmm"
        What :meth:`sample` draws latents from: the standard normal distribution, or
        a density that is fitted on the latents of at most 20,000 training rows when
        rows are first drawn: a normal distribution, a mixture of them, or a
        scikit-learn estimator with ``sample`` (Ghosh et al., "From variational to
        deterministic autoencoders", ICLR 2020). The prior is where latents are
        pressed to, not where they are: the others commonly draw better rows.
    {parameters}

    Attributes
    ----------
    {latent_attributes}
    {attributes}

    See Also
    --------
    AutoencoderTransformer : Without the prior.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import VariationalAutoencoder
    >>> images = load_digits().images
    >>> autoencoder = VariationalAutoencoder(n_components=8, random_state=0).fit(images)
    >>> autoencoder.sample(5, random_state=0).shape
    (5, 8, 8)
    """

    _parameter_constraints = {
        **AutoencoderTransformer._parameter_constraints,
        "beta": [Interval(Real, 0, None, closed="left")],
        "kl_warm_up": [Interval(Real, 0, 1, closed="both")],
        "latent_density": [
            StrOptions({"prior", "gaussian", "gmm"}),
            HasMethods(["fit", "sample"]),
        ],
    }

    def __init__(
        self,
        *,
        beta=1.0,
        kl_warm_up=0.25,
        n_components="auto",
        hidden_layer_sizes="auto",
        network="auto",
        image_shape=None,
        activation="silu",
        loss="squared_error",
        scaling="auto",
        normalization=None,
        dropout=0.0,
        weight_decay=0.0,
        latent_l1=0.0,
        sparsity=None,
        init="auto",
        ordered=False,
        sparse_output=False,
        latent_density="gmm",
        optimizer="adam",
        learning_rate=3e-3,
        lr_schedule="one_cycle",
        batch_size="auto",
        max_epochs="auto",
        tol=1e-4,
        n_iter_no_change=10,
        early_stopping="auto",
        validation_fraction=0.1,
        warm_start=False,
        random_state=None,
        device="auto",
        precision="float32",
        compile=False,
        verbose=0,
    ):
        super().__init__(
            n_components=n_components,
            hidden_layer_sizes=hidden_layer_sizes,
            network=network,
            image_shape=image_shape,
            activation=activation,
            loss=loss,
            scaling=scaling,
            normalization=normalization,
            dropout=dropout,
            weight_decay=weight_decay,
            latent_l1=latent_l1,
            sparsity=sparsity,
            init=init,
            ordered=ordered,
            sparse_output=sparse_output,
            latent_density=latent_density,
            optimizer=optimizer,
            learning_rate=learning_rate,
            lr_schedule=lr_schedule,
            batch_size=batch_size,
            max_epochs=max_epochs,
            tol=tol,
            n_iter_no_change=n_iter_no_change,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            warm_start=warm_start,
            random_state=random_state,
            device=device,
            precision=precision,
            compile=compile,
            verbose=verbose,
        )
        self.beta = beta
        self.kl_warm_up = kl_warm_up

    beta: float

    def score_samples(self, X):
        """Lower bound of each row's log-likelihood, a feature; higher is more normal.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows; NaN cells are left out.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Minus what training minimises: the surprise at the observed features, over
            32 draws of latents that are the same in every call, and ``beta`` times
            the divergence, divided by the number of these features. With ``beta=1``
            it is the evidence lower bound of the scaled features in nats, but for a
            constant.
        """
        check_is_fitted(self)
        return -self._model.bounds(self._check_X(X), float(self.beta))

    def _network_spec(self, n_features: int) -> Spec:
        if self._is_ordered() or self.sparsity is not None:
            raise ValueError(
                f"Drawn latents are neither ordered nor sparse: ordered={self.ordered!r}, "
                f"n_components={self.n_components!r}, sparsity={self.sparsity!r}. Pass "
                f"ordered=False, a whole number or 'auto', and sparsity=None, or use "
                f"AutoencoderTransformer."
            )
        return super()._network_spec(n_features)
