"""Every number that affects the quality of results, in one table.

docs/defaults.md ("Numbers inside") has a row for each: its value, what it decides and what it
was chosen by. Numbers that affect only memory or speed are defined where they are used.
"""

# Sizes: latents and layers that "auto" stands for.
MOST_LATENTS = 32
MOST_LATENTS_OF_A_SHARE = 64
MOST_LATENTS_OF_IMAGE_DETECTOR = 64
FEWEST_UNITS, MOST_UNITS = 128, 512
DETECTOR_LAYERS = (64, 32)
CONV_CHANNELS = (32, 64, 64)
UNET_CHANNELS = (48, 96)

# Training: steps, epochs, batches and rates that "auto" stands for.
LEARNING_RATE = 3e-3
STEPS, STEPS_OF_CHANGED_ROWS = 3000, 6000
FEWEST_EPOCHS, MOST_EPOCHS = 15, 300
EPOCHS_FROM_PCA = 20
DETECTOR_EPOCHS, IMAGE_DETECTOR_EPOCHS = 20, 10
BATCHES, SMALLEST_BATCH, LARGEST_BATCH = 64, 32, 256
EARLY_STOPPING_ROWS = 10_000
ONE_CYCLE_WARM_UP, ONE_CYCLE_START = 0.25, 0.04
ADAM_BETAS, SGD_MOMENTUM = (0.9, 0.999), 0.9
BOUNDED_FROM = 0.9
DISPERSION_RATE = 0.02
DIVERGED_ERROR = 10.0

# Networks that start as PCA.
START_ROWS = 16_384
UNITS_BESIDE_PCA = 0.1
PATH_WEIGHT, FEW_LATENTS = 10.0, 0.25
PROOF_SHARE, PROOF_ROWS, CLEAR_GAIN = 0.1, 1024, 0.5
ROWS_OF_A_FEATURE = 5
SHARES_KEPT = (1.0, 0.75, 0.5, 0.25, 0.0)

# Wavelet scattering ahead of a network, and the subspaces of its coefficients and of the pixels.
SCATTERING_ANGLES, SCATTERING_CELLS = 8, 8
SCATTERING_WIDTH, SCATTERING_FREQUENCY, SCATTERING_SLANT = 0.8, 0.75, 0.5
SCATTERING_BLUR = 1.0
SCATTERING_FLOOR = 0.1
SCATTERING_AXES, PIXEL_AXES = 256, 128
SCATTERING_WHITENING, PIXEL_SHARE = 0.5, 0.03

# Features for a linear classifier: pieces of a column, hidden units, noise, steps, variance in sum.
COLUMN_PIECES = 8
FEATURE_UNITS, FEATURE_EPOCHS, FEATURE_ROWS = 256, 100, 4096
FEATURES_VARIANCE = 5.0

# Categories: logits that networks start from.
LEAST_SHARE, DAMPED_SHARE = 1e-4, 0.1

# Wide rows: features from which networks work in a subspace, and its axes.
WIDE_FEATURES, SUBSPACE_AXES = 4096, 256
ZERO_ROWS, ZERO_SHARE, NORM_SPREAD = 256, 0.9, 1e-3

# Scaling: most values that a flag, a count or a grade takes; least spread of a feature.
FEW_VALUES = 32
CONSTANT_SHARE = 1e-6
FLAG_SCALE = 0.5**0.5

# Values far out: a few of them at each end, fences around the others, how far networks are taken.
FEW_ROWS_SHARE, FEW_ROWS = 0.01, 3
FENCE_ROWS = 4096
FENCE_SPANS = 2.0
NEAR_MARGIN, FAR_MARGIN, USUAL_UNITS = 0.1, 1.0, 4.0
EXCESS_UNIT = 3.0

# Detectors: members, rows of each, and their rate on images.
DETECTOR_MEMBERS = 4
ROWS_FOR_ALL_MEMBERS = 64
MEMBER_SHARE, MEMBER_ROWS, MEMBER_SHARE_OF_MANY = 0.8, 1024, 0.1
MEMBER_SHARE_OF_IMAGES = 0.5
FEATURES_AT_FULL_RATE = 784

# Detectors: views of latents and residuals.
CALIBRATION_ROWS = 8192
FEWEST_HELD_OUT = 16
COPIES_SHARE = 0.25
VIEW_DIMENSIONS = 256
ISOLATION_DRAWS, ISOLATION_ROWS = 16, 4
NEAREST_ROWS = 1024
NEIGHBOR_ROWS, NEIGHBOR_WEIGHT = 2048, 0.5
TRIMMED_SHARE = 0.2
COVARIANCE_RIDGE = 1e-2
VIEW_SHARPNESS = 1.5
UNUSUAL_DEVIATIONS = 2.5

# Detectors: scores by how much of a row was observed.
MOST_LEVELS, ROWS_OF_A_LEVEL, NARROWEST_LEVEL = 8, 64, 0.2

# Detectors of images: octaves of residuals.
FARTHEST_LATENT = 3.0
NARROWEST_OCTAVE = 0.2
MISSING_DEVIATIONS = 3.0
KNOWN_SHARE = 0.1

# Detectors of images: blocks of pixels, foretold from the rings around them.
BLOCK_SIDE, RING_SIDE = 4, 8
RING_AXES, RING_FEATURES, RING_RIDGE = 24, 192, 1e-4
RING_BLOCKS = 20_000
SMALLEST_RINGED_OCTAVE = 16

# Detectors of images by another score: a part of the shorter side smooths the map of losses.
MAP_SMOOTHING = 32

# Features of pixels: width of a window as a part of the patch, widths of derivatives.
WINDOWS_OF_A_PATCH = 4
CURVATURE_WIDTHS = (1, 2)

# Patches and tiles of images.
PATCH_COVERS = 8
TILE_SIDE, TILE_OVERLAP = 256, 48

# Repair of images: the U-net's correction, and the smoothing of holes.
CORRECTION_DAMPING = 0.1
HOLE_STEPS, HOLE_STEP, HOLE_MOMENTUM = 6, 0.36, 0.5

# Streams: rows that a calibration and a density are made of, at least.
RECENT_ROWS, FEWEST_RECENT = 256, 16

# Imputation: most epochs, and the share of the rows that tells how far off filled-in cells are.
IMPUTER_EPOCHS, HELD_OUT_FOR_ERRORS = 1000, 0.1

# Networks that fill gaps: layers, what a Gaussian with factors expects, levels of numbers, parts
# of the columns that are hidden in turns to judge.
GAP_LAYERS = (256, 256)
GAP_BATCH, GAP_STEPS = 128, 2000
GAP_EPOCHS, GAP_EPOCHS_OF_ROWS = 100, 0.1
FACTORS, FACTOR_ROWS, FACTOR_PASSES = 16, 4096, 20
FACTOR_PRIOR, LEAST_FACTOR_NOISE = 2e-3, 1e-2
GAP_LEVELS, GAP_LEVELS_OF_ALL = 12, 2048
GAP_PARTS = 5

# Densities of latents, and what columns of decoded draws hold.
DENSITY_ROWS, QUICK_DENSITY_ROWS = 20_000, 2000
MARGIN_DRAWS = 4096
MIXTURE_SIZES, ROWS_OF_A_COMPONENT = (1, 2, 3, 5, 10, 20, 40, 80), 10

# Codecs: the error that step="auto" adds, and the further training.
ROUNDING_SHARE = 0.25
CODEC_RATE, CODEC_DENSITY_RATE = 5e-4, 1e-2
CODEC_UPDATES, CODEC_FEWEST_EPOCHS, CODEC_MOST_EPOCHS = 2000, 10, 200
CODEC_LOGISTICS, CODEC_BATCH = 4, 256
TABLE_PRIOR_ROWS = 8.0
