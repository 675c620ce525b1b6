"""The benchmark problems; they live in the package, so that an installed `fastconv bench` has them too."""

from fastconv.tools.problems import (
    CONV1D,
    CONV2D,
    CONV3D,
    CONV_TRANSPOSE2D,
    GROUPS,
    PASSES,
    PROBLEMS,
    Problem,
    select,
)

__all__ = [
    "CONV1D",
    "CONV2D",
    "CONV3D",
    "CONV_TRANSPOSE2D",
    "GROUPS",
    "PASSES",
    "PROBLEMS",
    "Problem",
    "select",
]
