"""
Texts in a few numbers
======================

Documentation strings of Python's standard library as rows of 20,000 words and pairs of words:
which module is a text from? A classifier of a few latents of an autoencoder tells it more often
than one of as many components of ``TruncatedSVD``. Needs matplotlib
(``pip install "skae[plot]"``).
"""

import argparse
import importlib
import inspect

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer

MODULES = [
    *("asyncio", "collections", "datetime", "decimal", "difflib", "email.message", "http.client"),
    *("imaplib", "ipaddress", "logging", "mailbox", "pathlib", "smtplib", "ssl", "statistics"),
    *("tarfile", "threading", "unittest", "urllib.request", "xml.dom.minidom", "zipfile"),
]
SIZES = [4, 8, 16]


def documents():
    """Documentation strings of functions, classes and methods, and the modules they are from."""
    found = {}
    for name in MODULES:
        package = name.split(".")[0]
        for _, member in inspect.getmembers(importlib.import_module(name)):
            own = (getattr(member, "__module__", None) or "").split(".")[0].lstrip("_") == package
            if not own or not (inspect.isclass(member) or inspect.isroutine(member)):
                continue
            parts = vars(member).values() if inspect.isclass(member) else ()
            for part in (member, *parts):
                text = inspect.getdoc(part) if callable(part) or isinstance(part, property) else ""
                if len((text or "").split()) >= 6:
                    found.setdefault(text, package)
    return list(found), np.array(list(found.values()))


def accuracy(transformer, train, test, y_train, y_test):
    classifier = make_pipeline(transformer, StandardScaler(), LogisticRegression(max_iter=1000))
    return classifier.fit(train, y_train).score(test, y_test)


def main(path):
    texts, y = documents()
    texts_train, texts_test, y_train, y_test = train_test_split(
        texts, y, test_size=0.5, stratify=y, random_state=0
    )
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), dtype=np.float32)
    train, test = words.fit_transform(texts_train), words.transform(texts_test)
    print(f"{len(texts)} texts of {len(set(y))} modules, {train.shape[1]} words and pairs of words")
    found = {"AutoencoderTransformer": [], "TruncatedSVD": []}
    for n in SIZES:
        autoencoder = AutoencoderTransformer(n_components=n, random_state=0)
        svd = TruncatedSVD(n, random_state=0)
        for transformer in (autoencoder, svd):
            share = accuracy(transformer, train, test, y_train, y_test)
            found[type(transformer).__name__].append(share)
            print(f"{n:>3} numbers, {type(transformer).__name__}: {share:.0%} right")
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for (name, shares), marker in zip(found.items(), "os", strict=True):
        axis.plot(SIZES, shares, marker=marker, label=name)
    axis.set(xlabel="numbers kept of a text", ylabel="share of modules told", xticks=SIZES)
    axis.set_ylim(0)
    axis.set_title("Which module is a documentation string from?", fontsize=11)
    axis.legend(loc="lower right")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="text.png")
    main(parser.parse_args().output)
