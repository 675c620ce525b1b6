"""The examples in the docstrings, run."""

import doctest
import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import pytest

import fastconv


def modules() -> Iterator[str]:
    """Every module of the package; scripts and hosts' adapters import what may not be installed."""
    yield "fastconv"
    for module in pkgutil.walk_packages(fastconv.__path__, "fastconv."):
        if not module.name.startswith("fastconv.adapters") and "__main__" not in module.name:
            yield module.name


def documented(module: ModuleType) -> list[doctest.DocTest]:
    return [test for test in doctest.DocTestFinder().find(module) if test.examples]


@pytest.mark.parametrize("name", list(modules()))
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in documented(module):
        runner.run(test)
    assert runner.failures == 0


def test_every_public_function_has_a_docstring_and_the_examples_are_found() -> None:
    for name in fastconv.__all__:
        assert getattr(fastconv, name).__doc__, f"{name} has no docstring"
    assert documented(importlib.import_module("fastconv.ops.conv2d"))
