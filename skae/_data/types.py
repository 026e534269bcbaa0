"""Types of what callers pass and get."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

# Rows or images: an array, lists, a sparse matrix, a data frame, or a file that is sliced by rows.
MatrixLike: TypeAlias = Any

# Results: an array, or a data frame if the caller has or asks for one.
Output: TypeAlias = Any

FloatArray: TypeAlias = NDArray[np.floating[Any]]

RandomState: TypeAlias = int | np.random.RandomState | None

Auto: TypeAlias = Literal["auto"]

Device: TypeAlias = str | torch.device

# Takes the shape of one input and the number of latents; returns an encoder and a decoder.
NetworkBuilder: TypeAlias = Callable[[tuple[int, ...], int], tuple[nn.Module, nn.Module]]
