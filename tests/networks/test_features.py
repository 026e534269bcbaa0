"""Pieces of columns, and the network that reads them."""

import numpy as np
import pytest
import torch

from skae._networks.factory import initialize
from skae._networks.features import FeaturesSpec, Pieces, cuts_of

CPU = torch.device("cpu")


def _pieces(rows, weights=None):
    counts = tuple(len(cuts) - 1 for cuts in cuts_of(rows, weights))
    spec = FeaturesSpec(sum(counts), (), (5,), activated=True, pieces=counts)
    pieces = Pieces(spec, rows)
    pieces.fit(rows, weights)
    return spec, pieces


def test_cuts_are_quantiles_or_all_values_where_there_are_few():
    many, few = torch.arange(81.0), torch.arange(81.0) % 3
    flags, constant = (torch.arange(81.0) > 5).float(), torch.full((81,), 7.0)
    cuts = cuts_of(torch.stack([many, few, flags, constant], 1), None)
    assert cuts[0].tolist() == [0, 10, 20, 30, 40, 50, 60, 70, 80]
    assert [cut.tolist() for cut in cuts[1:]] == [[0, 1, 2], [0, 1], [7, 8]]


def test_a_weight_cuts_as_repetitions_do():
    values = torch.rand(50, generator=torch.Generator().manual_seed(0))[:, None]
    counts = torch.arange(50) % 4 + 1
    repeated = cuts_of(values.repeat_interleave(counts, 0), None)
    weighted = cuts_of(values, counts / counts.float().mean())
    assert repeated[0].tolist() == weighted[0].tolist()


def test_missing_and_unseen_cells_are_no_guide():
    column = torch.tensor([torch.nan, 1.0, 2.0, torch.nan])
    rows = torch.stack([column, torch.full((4,), torch.nan)], 1)
    spec, pieces = _pieces(rows)
    assert spec.pieces == (1, 1)
    assert pieces(rows).tolist() == [[0, 0], [-1, 0], [1, 0], [0, 0]]


def test_coordinates_are_standardized_and_tell_the_row():
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(200, 3)))
    spec, pieces = _pieces(rows)
    coordinates = pieces(rows)
    torch.testing.assert_close(coordinates.mean(0), torch.zeros(24, dtype=torch.float64))
    torch.testing.assert_close(coordinates.var(0, correction=0), torch.ones_like(coordinates[0]))
    network = initialize(spec, (0,), torch.float64, CPU)
    network.front.load_state_dict(pieces.state_dict())
    torch.testing.assert_close(network.back(coordinates), rows)


@torch.no_grad()
def test_the_modules_are_the_network():
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(32, 3)))
    spec, pieces = _pieces(rows)
    network = initialize(spec, (0,), torch.float64, CPU)
    network.front.load_state_dict(pieces.state_dict())
    network.fit_gain(rows, None)
    encoder, decoder = network.modules()
    features = network.encode(rows)[0]
    torch.testing.assert_close(encoder(rows), features)
    torch.testing.assert_close(decoder(features), network.decode(features)[0])
    of_hidden = torch.full((5,), 0.5, dtype=torch.float64)
    torch.testing.assert_close(features[:, -5:].var(0, correction=0), of_hidden)
    assert features.var(0, correction=0).sum().item() == pytest.approx(5.0)
