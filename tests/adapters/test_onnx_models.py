"""Whole networks: FastEvaluator against ONNX Runtime.

VGG-19, with its half a gigabyte of weights, is compared in benchmarks/adapters.py.
"""

import numpy as np
import pytest

pytest.importorskip("onnx", reason="ONNX is not installed")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
import onnx_models
from onnxruntime import InferenceSession

from fastconv.adapters.base import count_calls
from fastconv.adapters.onnx import FastEvaluator

CONVOLUTIONS = {"resnet50": 53, "inception_v1": 57, "inception_v2": 69, "shufflenet": 49, "mobilenet_v2": 52}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_equal_to_onnx_runtime(name):
    model = onnx_models.load(name)
    feeds = onnx_models.sample_input(model)
    (want,) = InferenceSession(model.SerializeToString()).run(None, feeds)
    with count_calls() as calls:
        (got,) = FastEvaluator(model).run(None, feeds)
    assert calls["conv2d"] == CONVOLUTIONS[name]
    assert np.ptp(want) > 0.01 * np.abs(want).max() > 0
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * np.abs(want).max())
