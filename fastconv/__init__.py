"""fastconv: convolution, its gradients and pooling of NumPy arrays, as fast as the CPU allows."""

import pkgutil
import sys
import types

# After a plain install, importing from the repository's root finds this source folder, without the compiled
# kernels: they are in the installed package, which this adds to the search path.
__path__ = pkgutil.extend_path(__path__, __name__)

from fastconv import testing
from fastconv.dispatch import runtime
from fastconv.dispatch.explain import explain
from fastconv.dispatch.plan import plan_conv2d
from fastconv.dispatch.registry import kernels as _kernel_table
from fastconv.dispatch.settings import use
from fastconv.dispatch.tuning import tune
from fastconv.dispatch.tuning_file import load_tuning, save_tuning
from fastconv.nn.activations import LeakyReLU, ReLU, Sigmoid, Softmax, Step, Tanh
from fastconv.nn.layers import AvgPool2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d
from fastconv.nn.losses import softmax_cross_entropy
from fastconv.nn.model import Sequential
from fastconv.nn.norm import BatchNorm2d
from fastconv.nn.optim import SGD, Adam
from fastconv.ops.activation import activation_grad
from fastconv.ops.adaptive_avg_pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool1d_grad,
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_grad,
    adaptive_avg_pool3d,
    adaptive_avg_pool3d_grad,
)
from fastconv.ops.adaptive_max_pool import (
    adaptive_max_pool1d,
    adaptive_max_pool1d_grad,
    adaptive_max_pool2d,
    adaptive_max_pool2d_grad,
    adaptive_max_pool3d,
    adaptive_max_pool3d_grad,
)
from fastconv.ops.argmax import argmax_from_onnx, argmax_from_window, argmax_to_onnx, argmax_to_window
from fastconv.ops.conv1d import conv1d, conv1d_filter_grad, conv1d_input_grad
from fastconv.ops.conv2d import conv2d, conv2d_filter_grad, conv2d_input_grad
from fastconv.ops.conv3d import conv3d, conv3d_filter_grad, conv3d_input_grad
from fastconv.ops.conv_transpose1d import (
    conv_transpose1d,
    conv_transpose1d_filter_grad,
    conv_transpose1d_input_grad,
)
from fastconv.ops.conv_transpose2d import (
    conv_transpose2d,
    conv_transpose2d_filter_grad,
    conv_transpose2d_input_grad,
)
from fastconv.ops.conv_transpose3d import (
    conv_transpose3d,
    conv_transpose3d_filter_grad,
    conv_transpose3d_input_grad,
)
from fastconv.ops.errors import UnsupportedProblem
from fastconv.ops.global_pool import (
    global_avg_pool,
    global_avg_pool_grad,
    global_max_pool,
    global_max_pool_grad,
)
from fastconv.ops.lp_pool import (
    lp_pool1d,
    lp_pool1d_grad,
    lp_pool2d,
    lp_pool2d_grad,
    lp_pool3d,
    lp_pool3d_grad,
)
from fastconv.ops.pool1d import avg_pool1d, avg_pool1d_grad, max_pool1d, max_pool1d_grad
from fastconv.ops.pool2d import avg_pool2d, avg_pool2d_grad, max_pool2d, max_pool2d_grad
from fastconv.ops.pool3d import avg_pool3d, avg_pool3d_grad, max_pool3d, max_pool3d_grad
from fastconv.ops.unpool import (
    max_unpool1d,
    max_unpool1d_grad,
    max_unpool2d,
    max_unpool2d_grad,
    max_unpool3d,
    max_unpool3d_grad,
)

__version__ = "0.1.0"


class _CallableModule(types.ModuleType):
    """`fastconv.kernels` is the subpackage and, called, the table of its kernels."""

    __call__ = staticmethod(_kernel_table)


kernels = sys.modules["fastconv.kernels"]
kernels.__class__ = _CallableModule

runtime.no_compiler_notice()

__all__ = [
    "SGD",
    "Adam",
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Step",
    "Tanh",
    "UnsupportedProblem",
    "activation_grad",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool1d_grad",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_grad",
    "adaptive_avg_pool3d",
    "adaptive_avg_pool3d_grad",
    "adaptive_max_pool1d",
    "adaptive_max_pool1d_grad",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_grad",
    "adaptive_max_pool3d",
    "adaptive_max_pool3d_grad",
    "argmax_from_onnx",
    "argmax_from_window",
    "argmax_to_onnx",
    "argmax_to_window",
    "avg_pool1d",
    "avg_pool1d_grad",
    "avg_pool2d",
    "avg_pool2d_grad",
    "avg_pool3d",
    "avg_pool3d_grad",
    "conv1d",
    "conv1d_filter_grad",
    "conv1d_input_grad",
    "conv2d",
    "conv2d_filter_grad",
    "conv2d_input_grad",
    "conv3d",
    "conv3d_filter_grad",
    "conv3d_input_grad",
    "conv_transpose1d",
    "conv_transpose1d_filter_grad",
    "conv_transpose1d_input_grad",
    "conv_transpose2d",
    "conv_transpose2d_filter_grad",
    "conv_transpose2d_input_grad",
    "conv_transpose3d",
    "conv_transpose3d_filter_grad",
    "conv_transpose3d_input_grad",
    "explain",
    "global_avg_pool",
    "global_avg_pool_grad",
    "global_max_pool",
    "global_max_pool_grad",
    "kernels",
    "load_tuning",
    "lp_pool1d",
    "lp_pool1d_grad",
    "lp_pool2d",
    "lp_pool2d_grad",
    "lp_pool3d",
    "lp_pool3d_grad",
    "max_pool1d",
    "max_pool1d_grad",
    "max_pool2d",
    "max_pool2d_grad",
    "max_pool3d",
    "max_pool3d_grad",
    "max_unpool1d",
    "max_unpool1d_grad",
    "max_unpool2d",
    "max_unpool2d_grad",
    "max_unpool3d",
    "max_unpool3d_grad",
    "plan_conv2d",
    "save_tuning",
    "softmax_cross_entropy",
    "testing",
    "tune",
    "use",
]
