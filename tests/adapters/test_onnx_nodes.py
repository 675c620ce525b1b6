"""ONNX's own node cases for the operators that fastconv replaces, on fastconv's backend."""

import re
import warnings

import numpy as np
import pytest

pytest.importorskip("onnx", reason="ONNX is not installed")
from onnx.backend.test.loader import load_model_tests

from fastconv.adapters.base import count_calls
from fastconv.adapters.onnx.backend import FastBackend

OPERATORS = re.compile(r"test_(basic_)?(conv|\w*pool|maxunpool|relu|batchnorm|lrn|clip)")
# What runs on ONNX's own code: integers, dilated averages, and the operators that NumPy computes.
HOSTS_OWN = re.compile(
    r"test_(convinteger|maxpool_2d_uint8|averagepool_\dd_dilations|relu|batchnorm|lrn|clip)"
)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # ONNX makes its cases as it is imported, overflows included
    NODES = load_model_tests(kind="node")
CASES = [case for case in NODES if OPERATORS.match(case.name)]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_node(case):
    backend = FastBackend.prepare(case.model)
    with count_calls() as calls:
        for inputs, outputs in case.data_sets:
            for got, want in zip(backend.run(inputs), outputs, strict=True):
                assert got.dtype == want.dtype
                np.testing.assert_allclose(got, want, rtol=case.rtol, atol=case.atol)
    assert bool(calls) != bool(HOSTS_OWN.match(case.name))


def test_all_the_cases_are_here():
    assert len(CASES) >= 100


def test_the_backend_is_a_cpu():
    assert FastBackend.supports_device("CPU") and FastBackend.supports_device("CPU:0")
    assert not FastBackend.supports_device("CUDA")
