"""Threads: nobody else's setting is touched, and small work does not depend on their number."""

import threading

import numpy as np
import pytest
import torch

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer
from skae._networks.principal import principal_axes
from skae._runtime.device import computing, sparing

CPU = torch.device("cpu")

RNG = np.random.default_rng(0)

X = RNG.normal(size=(200, 6))


@pytest.fixture(autouse=True)
def _two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def test_threads_born_during_fits_and_predictions_keep_theirs():
    found, stop = [], threading.Event()
    detector = AutoencoderAnomalyDetector(max_epochs=2, random_state=0).fit(X)

    def work():
        while not stop.is_set():
            AutoencoderTransformer(max_epochs=2, random_state=0).fit(X)
            detector.score_samples(X)

    def look():
        torch.ones(10).sum()
        found.append(torch.get_num_threads())

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for _ in range(100):
        born = threading.Thread(target=look)
        born.start()
        born.join()
        stop.wait(0.005)
    stop.set()
    for worker in workers:
        worker.join()
    assert found == [2] * 100
    assert torch.get_num_threads() == 2


def test_small_work_runs_on_one_thread_and_the_setting_comes_back():
    with computing(CPU, 0.0):
        assert torch.get_num_threads() == 1
        with computing(CPU, 1e12):
            assert torch.get_num_threads() == 1
    with computing(CPU, 1e12):
        assert torch.get_num_threads() == 2
        with computing(CPU, 0.0):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 2
    with pytest.raises(KeyboardInterrupt), computing(CPU, 0.0):
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("flops", [0.0, 1e12])
def test_a_setting_changed_inside_is_undone(flops):
    with computing(CPU, flops):
        torch.set_num_threads(3)
    assert torch.get_num_threads() == 2
    found = []
    born = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    born.start()
    born.join()
    assert found == [2]


def test_bits_of_small_work_do_not_depend_on_the_number_of_threads():
    rows = RNG.normal(size=(150, 20)) @ RNG.normal(size=(20, 20))
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        estimator = AutoencoderTransformer(max_epochs=3, random_state=0, device="cpu").fit(rows)
        results.append([estimator.transform(rows), np.array(estimator.loss_curve_)])
    for result in results[1:]:
        for found, expected in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(found, expected)


def test_axes_of_many_rows_do_not_depend_on_two_threads():
    rows = torch.from_numpy(RNG.normal(size=(3000, 60)) @ RNG.normal(size=(60, 60)))
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        with computing(rows.device, 1e9):
            found.append(principal_axes(rows.clone(), None, 20, 0))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_between_computations_one_thread_is_left():
    with sparing():
        assert torch.get_num_threads() == 1
        with computing(CPU, 1e12):
            assert torch.get_num_threads() == 2
            with computing(CPU, 0.0), computing(CPU, 1e12):
                assert torch.get_num_threads() == 1
            with sparing():
                assert torch.get_num_threads() == 1
        with sparing(), computing(CPU, 1e12):
            assert torch.get_num_threads() == 2
        with computing(CPU, 1e12):
            torch.set_num_threads(3)
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    found = []
    born = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    born.start()
    born.join()
    assert found == [2]
