"""Training runs, one by one or in one pass."""

from collections.abc import Callable
from functools import cached_property, partial
from typing import NamedTuple

from torch import Tensor

from skae._data.loaded import Rows
from skae._networks.factory import Network
from skae._runtime.device import computing
from skae._training.loop import train
from skae._training.monitor import Monitor
from skae._training.plan import TrainingPlan, TrainState


class Start:
    """What it takes to prove that training betters PCA.

    Parameters
    ----------
    parameters : Tensor of shape (n_parameters,)
        Those of PCA.
    choose : callable
        Gives :attr:`held_back`; called only where there is something to prove.
    """

    def __init__(self, parameters: Tensor, choose: Callable[[], Tensor]):
        self.parameters = parameters
        self._choose = choose

    @cached_property
    def held_back(self) -> Tensor:
        """Rows that a second network is not trained on, (n_rows,), bool."""
        return self._choose()


class Job(NamedTuple):
    """One training run: the arguments of :func:`skae._training.loop.train`, and the start.

    Attributes
    ----------
    start : Start or None
        None where nothing is to be proven.
    """

    network: Network
    rows: Rows
    plan: TrainingPlan
    state: TrainState
    monitor: Monitor
    start: Start | None = None


def run(job: Job) -> None:
    """Train with the settings that suit the device and the size of a step."""
    network, plan, size = job.network, job.plan, min(job.plan.batch_size, len(job.rows))
    products = partial(network.products, size, plan.product_dtype)
    with computing(network.device, 3.0 * network.flops * size, products) as pace:
        train(network, job.rows, plan, job.state, job.monitor, pace)
