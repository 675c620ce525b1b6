"""Optional packages: imported when needed, with one sentence on what to install when they are missing."""

from __future__ import annotations

import importlib
from typing import Any

# import name -> (name on PyPI, the extra of fastconv that brings it)
EXTRAS = {
    "PIL": ("Pillow", "images"),
    "matplotlib": ("matplotlib", "bench"),
    "numba": ("numba", "numba"),
    "onnx": ("onnx", "onnx"),
    "sklearn": ("scikit-learn", "digits"),
    "threadpoolctl": ("threadpoolctl", "bench"),
    "tqdm": ("tqdm", "digits"),
}


class MissingExtra(ImportError):
    """An optional package is not installed; the message says which extra brings it."""


def require(module: str, purpose: str) -> Any:
    """Import an optional module, or raise MissingExtra: PURPOSE needs it, and the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.split(".")[0]
        if (error.name or "").split(".")[0] != package:
            raise
        name, extra = EXTRAS.get(package, (package, "all"))
        raise MissingExtra(f"{purpose} needs {name}: pip install 'fastconv[{extra}]'") from None
