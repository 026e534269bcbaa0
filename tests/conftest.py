"""Settings of all tests."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    """One thread: two would wait for each other where the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
