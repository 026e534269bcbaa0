"""What memory is left, and the refusal of what would need more, before it is allocated.

An operating system often grants memory that it does not have, and ends the process later.
"""

import os
from collections.abc import Mapping
from pathlib import Path

_GIGABYTE = 1e9


def available() -> float:
    """Bytes that are left to this process, infinite where the system does not tell."""
    return min(_of_machine(), _of_container())


def check_fits(parts: Mapping[str, float], purpose: str, remedy: str) -> None:
    """Raise MemoryError if parts, in bytes by what they are for, are more than is available."""
    needed = sum(parts.values())
    # What is small is not worth the question.
    if needed < 0.1 * _GIGABYTE or needed <= (left := available()):
        return
    told = ", ".join(f"{name} {size / _GIGABYTE:.1f} GB" for name, size in parts.items())
    raise MemoryError(
        f"{purpose} needs about {needed / _GIGABYTE:.1f} GB of memory ({told}), but "
        f"{left / _GIGABYTE:.1f} GB are left. {remedy}."
    )


def _of_machine() -> float:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        kilobytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
        return 1024.0 * int(kilobytes)
    except (OSError, StopIteration):
        pass
    try:  # Elsewhere, all that the machine has.
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float("inf")


def _of_container(folder: Path = Path("/sys/fs/cgroup")) -> float:
    """What a limit of the control group leaves, but for the caches of files, which are given up."""
    try:
        limit = (folder / "memory.max").read_text().strip()
        if limit == "max":
            return float("inf")
        used = int((folder / "memory.current").read_text())
        lines = (folder / "memory.stat").read_text().splitlines()
        cached = next((line.split()[1] for line in lines if line.startswith("file ")), "0")
        return float(int(limit) - used + int(cached))
    except (OSError, ValueError):
        return float("inf")
