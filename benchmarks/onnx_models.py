"""Whole networks as ONNX graphs with random weights: those that onnx ships without, and MobileNetV2.

The closing Softmax is cut off: it would hide differences between implementations.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from onnx import helper, numpy_helper

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
SHIPPED = ("resnet50", "vgg19", "inception_v1", "inception_v2", "shufflenet")
NAMES = (*SHIPPED, "mobilenet_v2")
# MobileNetV2's rows (Sandler et al. 2018, table 2): expansion, channels, blocks, first stride
MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def load(name: str, seed: int = 0) -> onnx.ModelProto:
    """The network of that name, its weights drawn from `seed`."""
    rng = np.random.default_rng(seed)
    return (
        mobilenet_v2(rng)
        if name == "mobilenet_v2"
        else with_weights(onnx.load(LIGHT / f"light_{name}.onnx"), rng)
    )


def sample_input(model: onnx.ModelProto, seed: int = 1) -> dict[str, np.ndarray]:
    """One random image for the input that is no weight."""
    weights = {weight.name for weight in model.graph.initializer}
    (image,) = (i for i in model.graph.input if i.name not in weights)
    shape = [d.dim_value or 1 for d in image.type.tensor_type.shape.dim]
    return {image.name: np.random.default_rng(seed).standard_normal(shape).astype(np.float32)}


def with_weights(model: onnx.ModelProto, rng: np.random.Generator) -> onnx.ModelProto:
    """The light models make every weight from its shape and a constant; make them initializers instead."""
    shapes = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type != "ConstantOfShape"]
    if nodes[-1].op_type == "Softmax":
        model.graph.output[0].name = nodes.pop().input[0]
    roles = {name: (node.op_type, i) for node in nodes for i, name in enumerate(node.input)}
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape":
            op, position = roles[node.output[0]]
            value = draw(rng, op, position, tuple(shapes[node.input[0]]))
            model.graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    for kept in (model.graph.initializer, model.graph.input):
        unused = [item for item in kept if item.name not in used]
        for item in unused:
            kept.remove(item)
    return model


def draw(rng: np.random.Generator, op: str, position: int, shape: tuple[int, ...]) -> np.ndarray:
    """A weight that keeps activations in range: filters as He draws them, positive scales and variances."""
    if len(shape) > 1:
        value = rng.standard_normal(shape, np.float32) * np.sqrt(2 / np.prod(shape[1:]))
    elif op == "BatchNormalization" and position in (1, 4):
        value = rng.uniform(0.3, 0.9, shape) if position == 1 else rng.uniform(0.5, 1.5, shape)
    else:
        value = rng.standard_normal(shape) * 0.1
    return value.astype(np.float32)


def mobilenet_v2(rng: np.random.Generator) -> onnx.ModelProto:
    """MobileNetV2 for one 224x224 image: inverted residual blocks of Conv, BatchNormalization and Clip."""
    weights: dict[str, np.ndarray] = {"low": np.float32(0), "high": np.float32(6)}
    nodes: list[onnx.NodeProto] = []

    def conv(
        x: str, c: int, k: int, *, window: int = 1, stride: int = 1, group: int = 1, clip: bool = True
    ) -> str:
        name = f"n{len(nodes)}"
        weights[f"{name}.w"] = draw(rng, "Conv", 1, (k, c // group, window, window))
        for position, part in enumerate(("scale", "bias", "mean", "var"), start=1):
            weights[f"{name}.{part}"] = draw(rng, "BatchNormalization", position, (k,))
        add(
            "Conv",
            [x, f"{name}.w"],
            f"{name}.conv",
            strides=[stride] * 2,
            pads=[window // 2] * 4,
            group=group,
        )
        normal = add(
            "BatchNormalization",
            [f"{name}.conv", *(f"{name}.{p}" for p in ("scale", "bias", "mean", "var"))],
            f"{name}.bn",
        )
        return add("Clip", [normal, "low", "high"], f"{name}.clip") if clip else normal

    def add(op: str, inputs: list[str], output: str, **attributes: object) -> str:
        nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    x, c = conv("image", 3, 32, window=3, stride=2), 32
    for expansion, k, stride in blocks():
        wide = c * expansion
        y = conv(x, c, wide) if expansion > 1 else x
        y = conv(y, wide, wide, window=3, stride=stride, group=wide)
        y = conv(y, wide, k, clip=False)
        x, c = add("Add", [x, y], f"sum{len(nodes)}") if stride == 1 and c == k else y, k
    x = add("GlobalAveragePool", [conv(x, c, 1280)], "pooled")
    x = add("Flatten", [x], "flat")
    weights["fc"] = draw(rng, "Gemm", 1, (1000, 1280))
    add("Gemm", [x, "fc"], "logits", transB=1)
    graph = helper.make_graph(
        nodes,
        "mobilenet_v2",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, 224, 224])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [1, 1000])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def blocks() -> Iterator[tuple[int, int, int]]:
    """(expansion, channels, stride) of every block."""
    for expansion, k, repeats, stride in MOBILENET_V2:
        for i in range(repeats):
            yield expansion, k, stride if i == 0 else 1
