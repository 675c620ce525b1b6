"""ONNX models on fastconv: `FastEvaluator(model).run(None, {"x": x})`, or `install()` for ReferenceEvaluator.

Conv, ConvTranspose, the pooling operators, Relu and BatchNormalization are replaced, wherever the evaluator
reaches: in the graph, in subgraphs (If, Loop, Scan) and in functions of the model. What fastconv does not do
(half precision, integers, more than three spatial axes, NaN in a pooling window) runs on ONNX's own code.
FastEvaluator also folds a BatchNormalization into the convolution before it and runs Add and Relu in place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastconv.adapters import HOSTS
from fastconv.adapters.base import Adapter, Patch, or_else, require

require(HOSTS["onnx"])

from onnx import ModelProto  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402
from onnx.reference.ops import _op_list as reference  # noqa: E402

from fastconv.adapters.onnx import conv, elementwise, pool  # noqa: E402
from fastconv.adapters.onnx.fuse import FusedGraph  # noqa: E402

# ONNX's implementation -> fastconv's
FAST: dict[Any, Callable[..., tuple[Any, ...]]] = {
    reference.Conv: conv.conv,
    reference.ConvTranspose: conv.conv_transpose,
    reference.MaxPool: pool.max_pool,
    reference.AveragePool_1: pool.average_pool,
    reference.AveragePool_7: pool.average_pool,
    reference.AveragePool_11: pool.average_pool,
    reference.AveragePool_19: pool.average_pool,
    reference.LpPool: pool.lp_pool,
    reference.GlobalAveragePool: pool.global_average_pool,
    reference.GlobalMaxPool: pool.global_max_pool,
    reference.MaxUnpool: pool.max_unpool,
    reference.LRN: elementwise.lrn,
    reference.Relu: elementwise.relu,
    reference.BatchNormalization_9: elementwise.batch_normalization,
    reference.BatchNormalization_14: elementwise.batch_normalization,
}
# ONNX's implementation -> a subclass of it whose _run tries fastconv first
OPERATORS = {op: type(op.__name__, (op,), {"_run": or_else(fast, op._run)}) for op, fast in FAST.items()}


def _fast_operators(load: Callable[..., Any]) -> Callable[..., Any]:
    """The evaluator's choice of an implementation for a node, with fastconv's in the place of ONNX's."""

    def _load_impl(self: Any, node: Any, input_types: Any = None) -> Any:
        implementation = load(self, node, input_types)
        return OPERATORS.get(implementation, implementation)

    return _load_impl


class FastEvaluator(ReferenceEvaluator):  # type: ignore[misc]
    """ONNX's ReferenceEvaluator with convolutions and poolings on fastconv.

    The arguments, `run` and its result are ReferenceEvaluator's; operators given as `new_ops` come first.

    Examples
    --------
    >>> import numpy as np, onnx.parser
    >>> model = onnx.parser.parse_model('''
    ...     <ir_version: 10, opset_import: ["": 22]>
    ...     net (float[N, 1, H, W] x) => (y) { y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x) }''')
    >>> x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    >>> FastEvaluator(model).run(None, {"x": x})
    [array([[[[ 5.,  7.],
             [13., 15.]]]], dtype=float32)]
    """

    _load_impl = _fast_operators(ReferenceEvaluator._load_impl)

    def _init(self) -> None:
        super()._init()
        self._fused: FusedGraph | None = None
        # A subgraph reads names of the graph around it without saying so: nothing there may be joined.
        nested = any(node.need_context() or getattr(node, "has_subgraph", False) for node in self.rt_nodes_)
        if isinstance(self.proto_, ModelProto) and not self.new_ops_ and not nested:
            self._fused = FusedGraph(self.rt_nodes_, self.rt_inits_, self.output_names_)

    def run(  # type: ignore[override]
        self,
        output_names: Sequence[str] | None,
        feed_inputs: dict[str, Any],
        attributes: dict[str, Any] | None = None,
        intermediate: bool = False,
        check_shape_annotations: bool | None = None,
        **options: Any,
    ) -> Any:
        """ReferenceEvaluator's `run`, with what follows a convolution joined to it unless someone watches."""
        checked = check_shape_annotations or (
            check_shape_annotations is None and self.check_shape_annotations_
        )
        names = self.output_names_ if output_names is None else output_names
        needed = set(self.input_names_) - self.rt_inits_.keys()
        watched = intermediate or checked or self.verbose or not set(names) <= set(self.output_names_)
        if self._fused is None or watched or attributes or options or feed_inputs.keys() != needed:
            return super().run(
                output_names, feed_inputs, attributes, intermediate, check_shape_annotations, **options
            )
        values = self._fused.run(feed_inputs)
        return [values[name] for name in names]


def _patches() -> list[Patch]:
    return [Patch(ReferenceEvaluator, "_load_impl", _fast_operators)]


adapter = Adapter(HOSTS["onnx"], _patches)
install, uninstall, installed = adapter.install, adapter.uninstall, adapter.installed

__all__ = ["FastEvaluator", "install", "installed", "uninstall"]
