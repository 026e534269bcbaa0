"""Threads are chosen by the time that laps take: by a clock that the tests set."""

from typing import NamedTuple

import numpy as np
import pytest
import torch

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer
from skae._estimators import fitting
from skae._networks.dense import DenseNetwork, DenseSpec
from skae._runtime import threads
from skae._runtime.device import computing
from skae._runtime.threads import Cores, Laps

CPU = torch.device("cpu")


class Products(NamedTuple):
    """Work whose bits depend on the number of threads, or not."""

    name: str = "work"
    steady: bool = True

    def __call__(self):
        n = 1 if self.steady else torch.get_num_threads()
        return [torch.full((3,), float(n))]


class Machine:
    """Laps take these seconds on one thread and on all, and all wait if others use the cores."""

    def __init__(self, one=0.004, alone=0.002, crowded=0.07, share=1.0):
        self.now = self.on_core = 0.0
        self.one, self.alone, self.crowded, self.is_crowded = one, alone, crowded, False
        self.share = share  # Of its time that one thread is on a core, if others use the cores.
        self.cores = Cores(lambda: self.now, lambda: self.on_core)
        self.set, self.counts = [], []

    def laps(self, work=None):
        return Laps(work or Products(), 4, self.set.append, self.cores)

    def run(self, pace, seconds):
        """Laps for so long; their threads are noted."""
        end, first = self.now + seconds, len(self.counts)
        while self.now < end:
            self.counts.append(pace.threads)
            self.work(pace.threads)
            pace.lap()
        return self.counts[first:]

    def work(self, n_threads):
        if n_threads == 1:
            share = self.share if self.is_crowded else 1.0
            self.now, self.on_core = self.now + self.one, self.on_core + share * self.one
        elif self.is_crowded:
            self.now, self.on_core = self.now + self.crowded, self.on_core + 0.4 * self.crowded
        else:
            self.now, self.on_core = self.now + self.alone, self.on_core + self.alone


def test_alone_all_threads_work():
    machine = Machine()
    assert set(machine.run(machine.laps(), 5.0)) == {4}
    assert machine.set == []


def test_while_others_use_the_cores_one_thread_works_and_all_are_tried_now_and_then():
    machine = Machine()
    machine.is_crowded = True
    counts = machine.run(machine.laps(), 60.0)
    assert counts[:2] == [4, 1]
    tried = counts.count(4)
    assert 2 <= tried <= 40
    assert tried * machine.crowded < 0.05 * machine.now


def test_where_one_thread_waits_too_all_are_not_tried():
    machine = Machine(share=0.5)
    machine.is_crowded = True
    pace = machine.laps()
    assert machine.run(pace, 60.0).count(4) == 1
    machine.is_crowded = False
    machine.run(pace, 0.5)
    assert set(machine.run(pace, 5.0)) == {4}


def test_when_others_are_done_all_threads_work_again():
    machine = Machine()
    machine.is_crowded = True
    pace = machine.laps()
    machine.run(pace, 1.0)
    assert pace.threads == 1
    machine.is_crowded = False
    machine.run(pace, 10.0)
    assert set(machine.run(pace, 5.0)) == {4}


def test_all_threads_go_on_where_they_wait_and_are_faster_all_the_same():
    machine = Machine(one=0.04, crowded=0.01)
    machine.is_crowded = True
    counts = machine.run(machine.laps(), 30.0)
    assert counts.count(1) < 0.01 * len(counts)


def test_other_calls_begin_with_what_earlier_ones_found():
    machine = Machine()
    machine.is_crowded = True
    machine.run(machine.laps(), 0.1)
    for name in ("transform", "score_samples"):
        assert machine.laps(Products(name)).threads == 1
    machine.now += 11.0
    assert machine.laps(Products("transform")).threads == 4


def test_calls_of_one_lap_each_are_judged_together():
    machine = Machine(crowded=0.015)
    machine.is_crowded = True
    used = []
    for _ in range(100):
        pace = machine.laps()
        used.append(pace.threads)
        machine.work(pace.threads)
        pace.close()
    assert used[:3] == [4, 4, 1]
    assert used.count(4) < 10


def test_what_is_done_between_laps_does_not_count():
    machine = Machine()
    pace = machine.laps()
    for _ in range(100):
        machine.now += 1.0  # A callback, say.
        pace.start()
        machine.work(pace.threads)
        pace.lap()
    assert machine.set == []


def test_work_whose_bits_depend_on_the_number_keeps_it():
    before = torch.get_num_threads()
    try:
        machine = Machine()
        machine.is_crowded = True
        pace = Laps(Products(steady=False), 2, torch.set_num_threads, machine.cores)
        machine.run(pace, 1.0)
        assert pace.threads == 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_products_of_a_pass_are_those_that_bits_depend_on():
    spec = DenseSpec(6, (5,), (3, 2))
    network = DenseNetwork.initialize(spec, (0, 1), torch.float32, CPU)
    training, predictions = network.products(7, torch.float64), network.products(7)
    assert [tuple(made.shape) for made in training()[:3]] == [(2, 7, 5), (2, 7, 6), (2, 5, 6)]
    assert {made.dtype for made in training()} == {torch.float64}
    assert [tuple(made.shape) for made in predictions()] == [
        (2, 8, width) for width in (5, 3, 5, 6)
    ]
    assert predictions == network.products(8)
    assert all(map(torch.equal, training(), training()))


@pytest.fixture
def crowded(monkeypatch):
    """All cores are in use, and two threads are set."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    cores = Cores()
    cores._crowded_until = float("inf")
    monkeypatch.setattr(threads, "CORES", cores)
    yield cores
    torch.set_num_threads(before)


def test_one_thread_is_set_for_the_caller_alone(crowded):
    with computing(CPU, 1e12, Products) as pace:
        assert torch.get_num_threads() == 1
        crowded._crowded_until = 0.0
        pace.lap()
        assert torch.get_num_threads() == 2
        crowded._crowded_until = float("inf")
        pace.lap()
        with computing(CPU, 0.0):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with pytest.raises(KeyboardInterrupt), computing(CPU, 1e12, Products):
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("kind", [AutoencoderTransformer, AutoencoderAnomalyDetector])
def test_results_are_the_same_bits_on_one_thread(crowded, monkeypatch, kind):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(520, 8)) @ rng.normal(size=(8, 60))
    estimator = kind(max_epochs=1, batch_size=256, random_state=0, device="cpu")
    found = []
    for until in (float("inf"), -float("inf")):
        crowded._crowded_until = until
        monkeypatch.setattr(Cores, "judge", lambda self, kind, all_threads: None)
        estimator.fit(X)
        found.append([estimator.score_samples(X), np.array(estimator.loss_curve_)])
    for one, all_of_them in zip(*found, strict=True):
        np.testing.assert_array_equal(one, all_of_them)


def test_the_start_as_pca_is_paced_too(crowded, monkeypatch):
    found = []
    monkeypatch.setattr(fitting, "start_as_pca", lambda *_: found.append(torch.get_num_threads()))
    X = np.random.default_rng(0).normal(size=(2000, 100))
    for until in (float("inf"), -float("inf")):
        crowded._crowded_until = until
        AutoencoderTransformer(
            max_epochs=1, batch_size=1000, random_state=0, device="cpu", early_stopping=False
        ).fit(X)
    assert found == [1, 2]
