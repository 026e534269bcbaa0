"""Devices, precision and threads: the only file that knows their names."""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import local

import torch

from skae._runtime.threads import Laps, Pace, Work

_ACCELERATORS = ("cuda", "xpu", "mps")

# Below this many floating-point operations a second thread costs more to wake
# than it saves (examples/benchmarks/speed.py, small and large table).
_ONE_THREAD_FLOPS = 2e7

_EXACT_ROWS = 256

# glibc's malloc maps new memory for every large block, until a block of at most 32 MB has been
# freed. From then on it keeps up to twice that size for the next blocks.
_MALLOC_KEEPS = 1 << 23

_DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.float32}


def available_devices() -> list[str]:
    """Names that ``device=`` takes on this machine, best first."""
    found = []
    for kind in _ACCELERATORS:
        module = getattr(torch, kind, None)
        if module is not None and module.is_available():
            found.append(kind)
            count = module.device_count()
            found += [f"{kind}:{i}" for i in range(count)] if kind != "mps" else []
    return [*found, "cpu"]


# Of these kinds there is one device, with or without its number.
_SINGLE = ("cpu", "mps")


def resolve_device(name: str | torch.device) -> torch.device:
    """The device that ``name`` stands for; ``"auto"`` is the best one available.

    Raises
    ------
    ValueError
        If the name is unknown or the device absent.
    """
    present = available_devices()
    if name == "auto":
        return torch.device(present[0])
    kind, _, number = str(name).partition(":")
    known = kind if kind in _SINGLE and number in ("", "0") else str(name)
    if known not in present:
        raise ValueError(
            f"device={name!r} is not available on this machine. Available: "
            f"{', '.join(map(repr, present))}. Pass one of these, or device='auto'."
        )
    return torch.device(known)


def device_or_cpu(name: str) -> torch.device:
    """The device of that name, or the CPU where it is absent."""
    return torch.device(name if name in available_devices() else "cpu")


def resolve_precision(precision: str, device: torch.device) -> tuple[torch.dtype, torch.dtype]:
    """Dtype of the parameters and results, and dtype of the matrix products in training.

    ``"auto"`` takes bfloat16 products on an accelerator that computes them natively.
    """
    if precision == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bfloat16" if fast else "float32"
    if precision == "float64" and device.type == "mps":
        raise ValueError(
            "precision='float64' is not supported on device 'mps'. "
            "Pass precision='float32', or device='cpu'."
        )
    products = torch.bfloat16 if precision == "bfloat16" else _DTYPES[precision]
    return _DTYPES[precision], products


def trains_exactly(n_rows: int, batch_size: int, device: torch.device) -> bool:
    """Whether to train in float64: if all rows fit into one small batch, where it costs little.

    When each step uses all rows, training does not depend on their order, and a
    weight of two equals a row given twice. In float64 this stays true after rounding.
    """
    return device.type == "cpu" and n_rows <= min(batch_size, _EXACT_ROWS)


def fits(device: torch.device, n_bytes: int) -> bool:
    """Whether data of this size may stay on the device next to the training buffers."""
    if device.type == "cuda":
        return n_bytes < 0.7 * torch.cuda.mem_get_info(device)[0]
    return device.type != "xpu" or n_bytes < 0.7 * torch.xpu.mem_get_info(device)[0]


def has_fused_optimizers(device: torch.device) -> bool:
    """Whether torch's fused optimizer kernels are written for the device."""
    return device.type in ("cpu", "cuda")


def has_graphs(device: torch.device) -> bool:
    """Whether the device records operations, to repeat them by itself."""
    return device.type == "cuda"


class Graph:
    """Operations of a device, recorded once and then repeated with one launch.

    They read and write the memory that they did when recorded: whoever records keeps it.
    """

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()

    def record(self, operations: Callable[[], object]) -> None:
        """Record what ``operations`` asks of the device, without doing it.

        Raises
        ------
        RuntimeError
            If it asks for what cannot be recorded, such as waiting for a result.
        """
        # Other threads may use the device meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            operations()

    def replay(self) -> None:
        """Do what was recorded."""
        self._graph.replay()


def pinned_for(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor, in memory that can be copied to the device without waiting."""
    return tensor.pin_memory() if device.type == "cuda" else tensor


@contextmanager
def computing(
    device: torch.device, flops: float, work: Callable[[], Work | None] | None = None
) -> Iterator[Pace]:
    """Compute with neutral settings, and restore the caller's afterwards.

    Inside, gradients are not recorded unless ``torch.enable_grad`` asks for it,
    autocast is off, and work of few ``flops`` per call runs on one thread. So does what
    ``work`` gives while others use the cores; the caller ends its laps.

    Another number of threads may give other last bits: in what LAPACK decomposes, in sums over
    all of a large tensor (both are done with ``flops`` of zero), and in some products. The
    work that ``work`` gives is to contain all of the last.
    """
    threads = torch.get_num_threads()
    inside = 1 if flops < _ONE_THREAD_FLOPS else _spared.threads or threads
    paced = work() if work is not None and inside > 1 and device.type == "cpu" else None
    with _neutral(device.type), torch.no_grad(), _threads(inside, threads, paced) as pace:
        # Freed at once and never touched. This takes a microsecond, and avoids page faults in
        # every batch that made scoring half as fast.
        torch.empty(_MALLOC_KEEPS, dtype=torch.uint8)
        yield pace
        pace.close()


class _Spared(local):
    """How many threads the caller has, where :func:`sparing` leaves one; else None."""

    threads: int | None = None


_spared = _Spared()


@contextmanager
def sparing() -> Iterator[None]:
    """Use one thread, but for what is :func:`computing`: copies and the like gain little by more.

    And where others use the cores, they would take many times as long.
    """
    threads = torch.get_num_threads()
    most = _spared.threads or threads
    with _threads(1, threads, None):
        _spared.threads = most
        yield


@contextmanager
def _neutral(kind: str) -> Iterator[None]:
    """Neither autocast nor inference mode, which are hardly ever on, and slow to switch off."""
    if not (torch.is_inference_mode_enabled() or torch.is_autocast_enabled(kind)):
        yield
        return
    with torch.inference_mode(False), torch.autocast(kind, enabled=False):
        yield


@contextmanager
def _threads(inside: int, outside: int, work: Work | None) -> Iterator[Pace]:
    """Use ``inside`` threads in operations that this thread calls, or fewer for some work."""
    set_own, set_mkl = _own_settings()
    if inside != outside:
        set_own(inside)
    before = set_mkl(1)
    if work is None or set_own is torch.set_num_threads:
        pace = Pace(inside)
    else:
        pace = Laps(work, inside, set_own)
    spared, _spared.threads = _spared.threads, None
    try:
        yield pace
    finally:
        _spared.threads = spared
        if torch.get_num_threads() != pace.threads:  # The caller's code changed it.
            torch.set_num_threads(spared or outside)
        if pace.threads != outside:
            set_own(outside)
        set_mkl(before)


@cache
def _own_settings() -> tuple[Callable[[int], object], Callable[[int], int]]:
    """What sets the number of threads for the calling thread alone, and MKL's, whose last it gives.

    ``torch.set_num_threads`` also sets what threads that are born meanwhile keep for good. So
    this asks the libraries below, OpenMP and MKL, in which the setting is the thread's own.

    MKL is always asked for one thread: it parts long sums among threads, so that the bits of its
    products would depend on their number. What is large enough for several is multiplied by
    oneDNN, whose bits do not (``_networks/products.py``).
    """
    try:
        folder = Path(torch.__file__).parent / "lib"
        library = ctypes.CDLL(str(next(folder.glob("libtorch_cpu.*"))))
        set_openmp, most = library.omp_set_num_threads, library.omp_get_max_threads
    except (StopIteration, OSError, AttributeError):
        return torch.set_num_threads, lambda count: 0
    set_mkl = getattr(library, "MKL_Set_Num_Threads_Local", lambda count: 0)
    if most() != torch.get_num_threads():  # It is not the OpenMP that torch asks.
        return torch.set_num_threads, set_mkl
    return set_openmp, set_mkl


def _single_thread_after_fork() -> None:
    """Threads do not survive a fork; waiting for OpenMP's would hang the child."""
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_single_thread_after_fork)
