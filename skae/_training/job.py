"""Training runs, one by one or in one pass."""

from typing import NamedTuple

from torch import Tensor

from skae._data.loaded import Rows
from skae._networks.factory import Network
from skae._runtime.device import computing
from skae._training.loop import train
from skae._training.monitor import Monitor
from skae._training.plan import TrainingPlan, TrainState


class Job(NamedTuple):
    """One training run: the arguments of :func:`skae._training.loop.train`, and the start.

    Attributes
    ----------
    start : Tensor of shape (n_parameters,) or None
        The parameters of PCA, if it is to be proven that training betters them.
    """

    network: Network
    rows: Rows
    plan: TrainingPlan
    state: TrainState
    monitor: Monitor
    start: Tensor | None = None


def run(job: Job) -> None:
    """Train with the settings that suit the device and the size of a step."""
    flops = 3.0 * job.network.flops * min(job.plan.batch_size, len(job.rows))
    with computing(job.network.device, flops):
        train(job.network, job.rows, job.plan, job.state, job.monitor)
