"""Clusters of Dask on this machine."""

import pytest


def _client(**settings):
    dask = pytest.importorskip("dask")
    distributed = pytest.importorskip("distributed")
    pytest.importorskip("dask.dataframe")
    settings = {"threads_per_worker": 1, "dashboard_address": ":0", **settings}
    # Rows stay where tests put them, and workers that are killed are started again, however long
    # that takes on a busy machine.
    settled = {
        "distributed.scheduler.work-stealing": False,
        "distributed.deploy.lost-worker-timeout": "10 minutes",
    }
    with dask.config.set(settled):
        cluster = distributed.LocalCluster(**settings)
        client = distributed.Client(cluster)
        yield client
        client.close()
        cluster.close()


# Not of the session: the threads of a cluster would go on beside all later tests.
@pytest.fixture(scope="module")
def client():
    """A client of two workers that are threads of this process."""
    yield from _client(n_workers=2, processes=False)


@pytest.fixture(scope="module")
def processes():
    """A client of two workers that are processes."""
    yield from _client(n_workers=2, memory_limit="2GB")
