"""The examples in the docstrings of the adapters whose hosts are installed, run."""

import doctest
import importlib

import pytest

from fastconv.adapters import HOSTS, base

MODULES = [*HOSTS, "onnx.backend"]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    host = HOSTS[name.split(".")[0]]
    if host.package and not host.installed:
        pytest.skip(f"{host.name} is not installed")
    module = importlib.import_module(f"fastconv.adapters.{name}")
    assert doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


def test_examples_of_the_base():
    result = doctest.testmod(base)
    assert result.failed == 0 and result.attempted
