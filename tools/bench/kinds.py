"""Every bench, by name."""

from __future__ import annotations

from .data import READING
from .evaluate import EVALUATING
from .filters import FILTERING
from .gpu import GPU
from .guidance import GUIDING
from .kind import Kind
from .processes import PROCESSES
from .quickstart import QUICKSTART
from .samplers import SAMPLING
from .sampling import CALLS
from .startup import STARTING
from .training import TRAINING

__all__ = ["KINDS"]

KINDS: dict[str, Kind] = {
    "samplers": SAMPLING,
    "filters": FILTERING,
    "sample": CALLS,
    "evaluate": EVALUATING,
    "train": TRAINING,
    "guidance": GUIDING,
    "data": READING,
    "gpu": GPU,
    "processes": PROCESSES,
    "startup": STARTING,
    "quickstart": QUICKSTART,
}
