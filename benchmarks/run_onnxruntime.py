"""ONNX Runtime as a contestant: inference of a one-node model, its filters constant as in a real model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import onnxruntime
from contestants import Refused, arrays
from onnx import TensorProto, helper, numpy_helper

# Opset 17 is read by every release of the last years; ONNX Runtime refuses versions newer than itself.
OPSET, IR_VERSION = 17, 8


class Library:
    refusals = ()

    def __init__(self, threads: int, precision: str) -> None:
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.log_severity_level = 3

    def about(self) -> dict[str, Any]:
        return {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__}

    def call(self, task: dict[str, Any]) -> Callable[[], Any]:
        if task.get("kernel") or task["channels_last"] or task["kind"] == "step":
            raise Refused("ONNX Runtime runs NCHW inference")
        if task["pass"] not in ("forward", "max_pool"):
            raise Refused("ONNX Runtime has no gradient of this")
        a = arrays(task)
        model = (conv_model if task["kind"] == "conv" else pool_model)(task, a)
        try:
            session = onnxruntime.InferenceSession(
                model.SerializeToString(), self.options, providers=["CPUExecutionProvider"]
            )
        except Exception as reason:  # its exceptions share no base class of its own
            raise Refused(str(reason).splitlines()[0]) from None
        feed = {"x": a["x"]}
        return lambda: session.run(None, feed)[0]

    def values(self, task: dict[str, Any], result: Any) -> Any:
        return result


def conv_model(task: dict[str, Any], a: dict[str, Any]) -> onnx.ModelProto:
    o = task["options"]
    attributes = {
        "kernel_shape": a["w"].shape[2:],
        "strides": o["stride"],
        "pads": [*o["padding"], *o["padding"]],
        "dilations": o["dilation"],
        "group": o["groups"],
    }
    operator = "Conv"
    if task["op"].startswith("conv_transpose"):
        operator, attributes["output_padding"] = "ConvTranspose", o["output_padding"]
    node = helper.make_node(operator, ["x", "w"], ["y"], **attributes)
    return model_of(node, a["x"], ["y"], [numpy_helper.from_array(a["w"], "w")])


def pool_model(task: dict[str, Any], a: dict[str, Any]) -> onnx.ModelProto:
    sizes = {
        "kernel_shape": [task["window"]] * 2,
        "strides": [task["stride"]] * 2,
        "pads": [task["padding"]] * 4,
    }
    return model_of(helper.make_node("MaxPool", ["x"], ["y", "argmax"], **sizes), a["x"], ["y", "argmax"], [])


def model_of(node: Any, x: Any, outputs: list[str], constants: list[Any]) -> onnx.ModelProto:
    element = helper.np_dtype_to_tensor_dtype(x.dtype)
    types = {"y": element, "argmax": TensorProto.INT64}
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", element, x.shape)],
        [helper.make_tensor_value_info(name, types[name], None) for name in outputs],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
