"""Documentation of the parameters and attributes that all estimators share."""

PARAMETERS = """n_components : int{share} or "auto", default="auto"
        Number of latents. "auto" is half of the features, at most 32.{share_text}
    hidden_layer_sizes : array-like of int or "auto", default="auto"
        Widths of the encoder's hidden layers; the decoder mirrors them. "auto" is
        two layers, the second half as wide as the first: 128 and 64 for tables, up
        to 512 and 256 for rows of hundreds of features; 64 and 32 for a detector.
    network : {"auto", "mlp", "conv", "unet"} or callable, default="auto"
        "mlp" (the choice of "auto") is the dense network of ``hidden_layer_sizes``.
        "conv" is a convolutional network for images: ``hidden_layer_sizes`` are the
        channels of its stages, each of which halves height and width ("auto" is 32,
        64 and 64, or one stage less than the image allows). "unet", for
        :class:`DenoisingAutoencoder` alone, adds a learned correction to the image,
        whose missing pixels are first filled in as smoothly as possible; it has no
        bottleneck, and its latents are the restored image.
        A callable ``(input_shape, n_components) -> (encoder, decoder)`` returns a
        pair of ``torch.nn.Module``; ``input_shape`` is ``(n_features,)``, or
        ``(channels, height, width)`` where ``image_shape`` is given.
    image_shape : tuple of int, default=None
        ``(height, width)`` or ``(height, width, channels)`` of the image that each
        row holds, for a ``network`` or a noise that wants images. An array of images
        has its shape by itself.
    activation : {"relu", "tanh", "logistic", "elu", "gelu", "silu"}, default="silu"
        Activation of the hidden layers.
    loss : {"squared_error", "absolute_error", "huber", "log_loss"}, \
            default="squared_error"
        Loss of each scaled feature. "huber" turns linear at one unit; "log_loss"
        is for features in [0, 1].
    scaling : {"auto", "standard", "common", "minmax", "robust", "mixed"}, transformer or \
            None, default="auto"
        Scaling of the features, undone in everything that is returned in the
        user's units. "common" centres each feature and divides all by one scale;
        "mixed" takes half of the range for the scale of features of at most 32 values
        (flags, counts, grades) and is "standard" for the others. "auto" takes "minmax"
        for "log_loss"; "common" for data that look like pixels (all features start at
        one minimum and at least half of them reach half of the common range); else
        "standard", or "mixed" for a detector. Rows that look like pixels are rebuilt
        within the range seen, with "auto" and but for a detector: over the last tenth
        of the training, and in all predictions, outputs are cut off where it ends.
    normalization : {"batch", "layer"} or None, default=None
        Normalization of the hidden layers. A "unet" takes "batch" for None.
    dropout : float in [0, 1), default=0.0
        Share of hidden units that are set to zero in training.
    weight_decay : float, default=0.0
        Weight decay of the optimizer; biases are left out.
    latent_l1 : float, default=0.0
        Weight of the sum of the absolute latents in the loss.
    sparsity : int, default=None
        Keep this many of the largest latents of a row, and set the others to zero. Lest
        some latents are never used, training keeps all at first, and fewer and fewer
        over its first half (not with ``lr_schedule="constant"`` and in ``partial_fit``).
    init : {"auto", "pca", "random"}, default="auto"
        What the weights start as. "pca": the network begins as PCA of the scaled rows
        (of 4,096 of them at most), passed through pairs of hidden units, with all
        other units random; for activations "relu", "silu" and "gelu", without
        ``normalization``, ``sparsity`` and "log_loss". "auto" is "pca" where that is
        possible, and "random" for a detector of tables.
    optimizer : {"adam", "adamw", "sgd"}, default="adam"
        "sgd" has Nesterov momentum of 0.9 and wants a rate of 0.1 to 0.3: the loss
        is a mean over all cells.
    learning_rate : float, default=0.003
        Learning rate; the highest one where a schedule is used.
    lr_schedule : {"constant", "cosine", "one_cycle"}, default="one_cycle"
        Course of the learning rate over the training steps.
    batch_size : int or "auto", default="auto"
        Rows a step. "auto" is a power of two from 32 to 256 that makes about 64
        batches an epoch.
    max_epochs : int or "auto", default="auto"
        Passes over the data. "auto" is as many as 3,000 steps take, at least 15 and
        at most 300, or 20 from ``init="pca"``; where rows are changed at random (noise,
        ``dropout``, ``ordered``) 6,000 steps and 300 epochs; 20 epochs for a detector,
        lest it learn its outliers.
    tol : float, default=1e-4
        A loss that falls by less than this counts as no improvement.
    n_iter_no_change : int or None, default=10
        Stop after so many epochs without improvement of the validation loss, or,
        with ``lr_schedule="constant"`` and no validation, of the training loss.
    early_stopping : bool or "auto", default="auto"
        Hold out ``validation_fraction`` of the rows and keep the weights of the
        epoch that is best on them. "auto" does so from 10,000 rows on, if
        ``lr_schedule="constant"``: a schedule ends by itself.
    validation_fraction : float in (0, 1), default=0.1
        Share of the rows that is held out.
    warm_start : bool, default=False
        Whether :meth:`fit` goes on from the last fit's weights.
    random_state : int, RandomState instance or None, default=None
        Seed of the weights, the batches and the noise. The global random state is
        never used; None takes fresh entropy.
    device : str, default="auto"
        "cpu", "cuda", "cuda:1", "xpu", "mps", ... "auto" is an accelerator if there
        is one.
    precision : {"float32", "bfloat16", "float64", "auto"}, default="float32"
        "bfloat16" trains with products in half precision, on float32 weights;
        "auto" does so on accelerators that compute it natively. Results are float32,
        with "float64" float64. On a CPU, at most 256 rows that make one batch are
        always trained in float64, so that neither their order nor a weight in place
        of a repetition changes the result.
    compile : bool, default=False
        Whether to compile a ``network`` of modules with ``torch.compile``. The
        dense network needs no compiler.
    verbose : int, default=0
        Whether to show losses and remaining time; a bar where tqdm is installed."""

LATENT_PARAMETERS = """ordered : bool, default=False
        Whether to put the latents in order of importance: each row is trained with its
        first latents alone, a random number of them (nested dropout: Rippel, Gelbart
        and Adams, "Learning ordered representations with nested dropout", ICML 2014).
        One fit then serves every size: see :meth:`truncate`. Dense network only.
    sparse_output : bool, default=False
        Whether :meth:`transform` gives a CSR matrix; useful with ``sparsity``."""

DENSITY_PARAMETER = """latent_density : {"gaussian", "gmm"} or estimator, default="gaussian"
        Density that :meth:`sample` draws latents from, fitted on those of at most
        20,000 training rows when rows are first drawn: a normal distribution, a mixture
        of them, or a scikit-learn estimator with ``sample`` (Ghosh et al., "From
        variational to deterministic autoencoders", ICLR 2020)."""

LATENT_ATTRIBUTES = """explained_variance_ratio_ : ndarray of shape (n_components_,)
        Share of the variance of the scaled training rows that each latent adds, with
        those before it. From at most 10,000 rows. Only where latents are ordered."""

ATTRIBUTES = """encoder_, decoder_ : torch.nn.Module
        The fitted network, from scaled rows to latents and back.
    n_components_ : int
        Number of latents.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where they all are strings.
    loss_curve_ : list of float
        Mean training loss of each epoch, in the scaled space.
    validation_loss_curve_ : list of float or None
        Mean loss on the held-out rows after each epoch.
    best_loss_ : float
        Lowest validation loss, or training loss where no rows were held out.
    n_iter_ : int
        Number of epochs.
    device_ : str
        Device that holds the network."""


_SHARE = """ A share of
        the variance, as for ``PCA``: the latents are ordered, and as many are kept as
        explain it of the training rows, 64 if fewer do not."""


def documented(cls: type) -> type:
    """Fill the shared parameters and attributes into a class's docstring."""
    assert cls.__doc__ is not None
    text = cls.__doc__
    of_latents = "{latent_parameters}" in text
    texts = {
        "parameters": PARAMETERS,
        "attributes": ATTRIBUTES,
        "latent_parameters": LATENT_PARAMETERS,
        "density_parameter": DENSITY_PARAMETER,
        "latent_attributes": LATENT_ATTRIBUTES,
        "share": ", float in (0, 1)" if of_latents else "",
        "share_text": _SHARE if of_latents else "",
    }
    for name, value in texts.items():
        text = text.replace(f"{{{name}}}", value)
    cls.__doc__ = text
    return cls
