"""fastconv as an ONNX backend (`onnx.backend.base.Backend`), which ONNX's own test suite can drive."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto
from onnx.backend.base import Backend, BackendRep

from fastconv.adapters.onnx import FastEvaluator


class FastBackendRep(BackendRep):  # type: ignore[misc]
    """A model ready to run."""

    def __init__(self, model: ModelProto) -> None:
        self.evaluator = FastEvaluator(model)

    def run(self, inputs: Any, **options: Any) -> tuple[Any, ...]:
        """Outputs for `inputs`: one array for each input that is no initializer, in the model's order."""
        if isinstance(inputs, np.ndarray):
            inputs = (inputs,)
        names = [name for name in self.evaluator.input_names if name not in self.evaluator.rt_inits_]
        return tuple(self.evaluator.run(None, dict(zip(names, inputs, strict=False))))


class FastBackend(Backend):  # type: ignore[misc]
    """Runs models on the CPU with `FastEvaluator`.

    Examples
    --------
    >>> import onnx.parser
    >>> model = onnx.parser.parse_model('''
    ...     <ir_version: 10, opset_import: ["": 22]>
    ...     net (float[N] x) => (float[N] y) { y = Relu (x) }''')
    >>> FastBackend.run_model(model, [np.array([-1.0, 2.0], np.float32)])
    (array([0., 2.], dtype=float32),)
    """

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **options: Any) -> FastBackendRep:
        """Check the model and load its operators."""
        super().prepare(model, device, **options)
        return FastBackendRep(model)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether `device` is the CPU."""
        return device.split(":")[0] == "CPU"
