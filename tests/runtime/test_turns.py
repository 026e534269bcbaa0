"""Few rows from many threads: one thread computes for those that wait, and each gets its own."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer
from skae._model import model
from skae._runtime import turns
from skae._runtime.turns import Turns

RNG = np.random.default_rng(0)

X = RNG.normal(size=(200, 6))

ROWS = np.arange(12.0).reshape(6, 2)


def beside_one_that_holds(all_turns, calls):
    """Results (or errors) of calls that all wait for a turn while another thread has it."""
    holds, go_on = threading.Event(), threading.Event()

    def hold(rows):
        holds.set()
        go_on.wait()
        return rows

    def result_of(call):
        try:
            return all_turns.compute(*call)
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(len(calls) + 1) as pool:
        holder = pool.submit(all_turns.compute, hold, ROWS[:1])
        holds.wait()
        waiting = []
        for call in calls:
            waiting.append(pool.submit(result_of, call))
            while len(all_turns._waiting) < len(waiting):
                time.sleep(1e-4)
        go_on.set()
        np.testing.assert_array_equal(holder.result(), ROWS[:1])
        return [future.result() for future in waiting]


class Doubled:
    """Twice the rows, none of which may be negative, and how many each pass had."""

    def __init__(self):
        self.passes = []

    def __call__(self, rows):
        self.passes.append(len(rows))
        if (rows < 0).any():
            raise ValueError(f"{rows.min()}")
        return 2 * rows


@pytest.fixture
def no_patience(monkeypatch):
    monkeypatch.setattr(turns, "_PATIENCE", 60.0)
    if not turns._ONE_AT_A_TIME:
        pytest.skip("threads run side by side")


@pytest.mark.usefixtures("no_patience")
def test_rows_that_wait_are_computed_in_one_pass():
    doubled = Doubled()
    parts = [ROWS[:1], ROWS[1:4], ROWS[4:]]
    results = beside_one_that_holds(Turns(16), [(doubled, part, "kind") for part in parts])
    assert doubled.passes == [6]
    for result, part in zip(results, parts, strict=True):
        np.testing.assert_array_equal(result, 2 * part)
        assert result.base is None


@pytest.mark.usefixtures("no_patience")
@pytest.mark.parametrize(
    ("kinds", "passes"),
    [
        (["a", "b", "a", "b"], [2, 2]),
        ([None, None, None], [1, 1, 1]),
        (["a"] * 6, [2, 4]),
    ],
)
def test_only_calls_of_one_kind_and_not_too_many_rows_share_a_pass(kinds, passes):
    doubled = Doubled()
    calls = [(doubled, ROWS[i : i + 1], kind) for i, kind in enumerate(kinds)]
    results = beside_one_that_holds(Turns(4), calls)
    assert sorted(doubled.passes) == passes
    for i, result in enumerate(results):
        np.testing.assert_array_equal(result, 2 * ROWS[i : i + 1])


@pytest.mark.usefixtures("no_patience")
@pytest.mark.parametrize("faulty", [0, 1, 2])
def test_an_error_hits_only_the_caller_whose_rows_raise_it(faulty):
    parts = [ROWS[i : i + 1].copy() for i in range(3)]
    parts[faulty][:] = -1.0
    results = beside_one_that_holds(Turns(16), [(Doubled(), part, "kind") for part in parts])
    for i, (result, part) in enumerate(zip(results, parts, strict=True)):
        if i == faulty:
            assert result == "-1.0"
        else:
            np.testing.assert_array_equal(result, 2 * part)


@pytest.mark.usefixtures("no_patience")
def test_an_interrupted_turn_leaves_the_others_theirs():
    all_turns, interrupted = Turns(16), []

    def interrupt_once(rows):
        if not interrupted:
            interrupted.append(len(rows))
            raise KeyboardInterrupt
        return 2 * rows

    def call(rows, kind):
        try:
            return all_turns.compute(interrupt_once, rows, kind)
        except KeyboardInterrupt:
            return None

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(call, [ROWS[:1], ROWS[1:2], ROWS[2:3]], ["kind"] * 3))
    assert sum(result is None for result in results) == 1
    for i, result in enumerate(results):
        if result is not None:
            np.testing.assert_array_equal(result, 2 * ROWS[i : i + 1])
    assert all_turns._leader is None
    assert all_turns._waiting == []


def test_threads_that_compute_a_row_take_turns():
    all_turns, inside, most = Turns(16), [], []

    def nested(rows):
        return all_turns.compute(slow, rows, "kind")

    def slow(rows):
        inside.append(1)
        most.append(len(inside))
        time.sleep(5e-4)
        inside.pop()
        return rows

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda i: all_turns.compute(nested, ROWS[i % 6][None]), range(40)))
    np.testing.assert_array_equal(np.concatenate(results), ROWS[np.arange(40) % 6])
    assert len(most) == 40
    assert max(most) == 1 or not turns._ONE_AT_A_TIME


def test_nothing_hangs_on_a_turn_that_does_not_come(monkeypatch):
    monkeypatch.setattr(turns, "_PATIENCE", 0.01)
    detector = AutoencoderAnomalyDetector(max_epochs=2, random_state=0).fit(X)
    expected, found = detector.score_samples(X[:1]), []

    def hold(rows):
        worker = threading.Thread(target=lambda: found.append(detector.score_samples(X[:1])))
        worker.start()
        worker.join()
        return rows

    model.TURNS.compute(hold, X[:1])
    assert found == [expected]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_that_is_forked_while_a_thread_has_the_turn_has_its_own():
    all_turns, holds, go_on = Turns(16), threading.Event(), threading.Event()

    def hold(rows):
        holds.set()
        go_on.wait()
        return rows

    holder = threading.Thread(target=all_turns.compute, args=(hold, ROWS))
    holder.start()
    holds.wait()
    child = os.fork()
    if child == 0:
        os._exit(0 if all_turns._leader is None else 1)
    go_on.set()
    holder.join()
    assert os.waitpid(child, 0)[1] == 0


def test_scores_of_many_threads_have_the_bits_of_each_alone():
    rows = X.astype(np.float32)
    rows[::7, 2] = np.nan
    detectors = [
        AutoencoderAnomalyDetector(max_epochs=2, n_estimators=3, random_state=seed, **changes)
        for seed, changes in enumerate([{}, {"contamination": 0.0}])
    ]
    functions = [detector.fit(rows).score_samples for detector in detectors]
    new = rows + np.float32(0.125)
    for function in functions:  # Beside rows of the fit, which fewer members judge.
        beside = function(np.concatenate([new[:5], rows[:5]]))
        np.testing.assert_array_equal(beside[:5], function(new[:5]))
    transformer = AutoencoderTransformer(max_epochs=2, random_state=0).fit(rows)
    functions += [transformer.transform, transformer.reconstruct, transformer.score_samples]
    parts = [table[i : i + 1 + i % 4] for i in range(0, 40, 3) for table in (rows, new)]
    parts += [part.astype(np.float64) for part in parts[:4]]
    jobs = [(function, part) for part in parts for function in functions] * 2
    expected = [function(part) for function, part in jobs]
    with ThreadPoolExecutor(12) as pool:
        results = list(pool.map(lambda job: job[0](job[1]), jobs))
    for result, value in zip(results, expected, strict=True):
        assert result.dtype == value.dtype
        np.testing.assert_array_equal(result, value)


def test_an_infinite_row_is_refused_for_its_caller_alone():
    detector = AutoencoderAnomalyDetector(max_epochs=2, random_state=0).fit(X)
    rows = X[:24].copy()
    rows[::6, 0] = np.inf
    expected = detector.score_samples(X[:24])

    def score(i):
        try:
            return detector.score_samples(rows[[i]])[0]
        except ValueError as error:
            return "infinity" in str(error)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(score, range(24)))
    assert results == [True if i % 6 == 0 else expected[i] for i in range(24)]
