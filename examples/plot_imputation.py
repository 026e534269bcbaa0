"""
A table of numbers and text with gaps
=====================================

Measurements of wines with the name of the cultivar, of which a fifth of all cells are missing.
``AutoencoderImputer`` fills in numbers and text from the other columns, each closer to the truth
than its mean or its most frequent value. Needs matplotlib and pandas
(``pip install "skae[plot]" pandas``).
"""

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_wine

from skae import AutoencoderImputer


def wines():
    """The table, with the class as a column of text."""
    data = load_wine(as_frame=True)
    names = pd.Series(["Barolo", "Grignolino", "Barbera"])
    return data.data.assign(cultivar=names[data.target].to_numpy())


def main(path):
    table = wines()
    missing = np.random.default_rng(0).random(table.shape) < 0.2
    imputer = AutoencoderImputer(random_state=0).set_output(transform="pandas")
    filled = imputer.fit_transform(table.mask(missing))
    errors = {}
    for i, name in enumerate(table.columns[:-1]):
        gaps, truth = missing[:, i], table[name]
        by_mean = truth[gaps] - truth[~gaps].mean()
        errors[name] = np.sqrt(np.mean((filled[name] - truth)[gaps] ** 2) / np.mean(by_mean**2))
    gaps = missing[:, -1]
    right = (filled["cultivar"] == table["cultivar"])[gaps].mean()
    most = table["cultivar"][~gaps].mode()[0]
    by_mode = (table["cultivar"][gaps] == most).mean()
    print(f"cultivar: {right:.0%} of the gaps right; the most frequent one: {by_mode:.0%}")
    print(pd.Series(errors, name="error by the error of the mean").round(2).to_string())

    figure, axis = plt.subplots(figsize=(6, 4.2), layout="constrained")
    order = sorted(errors, key=errors.get)
    axis.barh(order, [errors[name] for name in order], color="C0")
    axis.axvline(1.0, color="black", linewidth=1)
    axis.text(1.01, 0.1, "the mean", fontsize=9)
    axis.set(xlabel="error of what is filled in, in units of the mean's", xlim=(0, 1.25))
    axis.invert_yaxis()
    figure.suptitle(
        f"A table with gaps: {right:.0%} of its text is right ({by_mode:.0%} by frequency)",
        fontsize=11,
    )
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="imputation.png")
    main(parser.parse_args().output)
