"""The named problems of benchmarks, correctness runs and documentation: layers of published networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from fastconv.ops.spec import LAYOUTS, Size, batch_shape

PASSES = ("forward", "input_grad", "filter_grad")


@dataclass(frozen=True)
class Problem:
    """One layer: x (N, C, *size) with K filters of a window; sizes are tuples over the spatial axes."""

    name: str
    n: int
    c: int
    size: Size
    k: int
    window: Size
    stride: Size
    padding: Size
    dilation: Size
    groups: int
    source: str
    transposed: bool = False
    output_padding: Size = ()

    @property
    def ndim(self) -> int:
        return len(self.size)

    @property
    def op(self) -> str:
        """The public function of the forward pass."""
        return f"conv{'_transpose' if self.transposed else ''}{self.ndim}d"

    @property
    def layouts(self) -> tuple[str, str]:
        """The names of (channels first, channels last) for this many axes."""
        return LAYOUTS[self.ndim]

    @property
    def out_size(self) -> Size:
        axes = zip(self.size, self.window, self.stride, self.padding, self.dilation, strict=True)
        if self.transposed:
            return tuple(
                (i - 1) * s - 2 * p + d * (f - 1) + 1 + extra
                for (i, f, s, p, d), extra in zip(axes, self.output_padding, strict=True)
            )
        return tuple((i + 2 * p - d * (f - 1) - 1) // s + 1 for i, f, s, p, d in axes)

    @property
    def flops(self) -> int:
        """2 per multiply-add of the direct sum, padding included: the figure every library quotes."""
        positions = self.size if self.transposed else self.out_size
        return 2 * self.n * self.c * self.k // self.groups * math.prod(self.window) * math.prod(positions)

    def x_shape(self, layout: str) -> Size:
        return batch_shape(self.n, self.c, self.size, layout == self.layouts[1])

    def dy_shape(self, layout: str) -> Size:
        return batch_shape(self.n, self.k, self.out_size, layout == self.layouts[1])

    def w_shape(self, layout: str) -> Size:
        """(K, C/groups, *window), transposed (C, K/groups, *window); channels last with those two last."""
        if self.transposed:
            rows, columns = self.c, self.k // self.groups
        else:
            rows, columns = self.k, self.c // self.groups
        return (*self.window, columns, rows) if layout == self.layouts[1] else (rows, columns, *self.window)

    @property
    def options(self) -> dict[str, Any]:
        """The keywords of the public functions, beside layout and kernel."""
        common = {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }
        return common | ({"output_padding": self.output_padding} if self.transposed else {})


def conv(name: str, *numbers: int, source: str) -> Problem:
    """A conv2d problem from (N, C, H, W, K, R, S, stride, padding, dilation, groups)."""
    n, c, h, w, k, r, s, stride, padding, dilation, groups = numbers
    return Problem(
        name, n, c, (h, w), k, (r, s), (stride,) * 2, (padding,) * 2, (dilation,) * 2, groups, source
    )


def conv_transpose(name: str, *numbers: int, source: str) -> Problem:
    """A conv_transpose2d problem from (N, C, H, W, K, R, S, stride, padding, output padding)."""
    n, c, h, w, k, r, s, stride, padding, extra = numbers
    steps = ((stride,) * 2, (padding,) * 2, (1, 1))
    return Problem(
        name, n, c, (h, w), k, (r, s), *steps, 1, source, transposed=True, output_padding=(extra,) * 2
    )


def conv_nd(
    name: str,
    n: int,
    c: int,
    size: Size,
    k: int,
    window: int | Size,
    *,
    stride: int = 1,
    padding: int | Size = 0,
    dilation: int = 1,
    groups: int = 1,
    source: str,
) -> Problem:
    """A convolution of one or three axes; a single number serves every axis."""

    def each(value: int | Size) -> Size:
        return (value,) * len(size) if isinstance(value, int) else value

    return Problem(
        name, n, c, size, k, each(window), each(stride), each(padding), each(dilation), groups, source
    )


# (N, C, H, W, K, R, S, stride, padding, dilation, groups)
CONV2D = (
    conv("digits_c1", 64, 1, 8, 8, 16, 3, 3, 1, 1, 1, 1, source="this package's digits net"),
    conv("digits_c2", 64, 16, 8, 8, 32, 3, 3, 1, 1, 1, 1, source="this package's digits net"),
    conv("lenet_c1", 64, 1, 28, 28, 6, 5, 5, 1, 2, 1, 1, source="LeNet-5, LeCun et al. 1998"),
    conv("lenet_c3", 64, 6, 14, 14, 16, 5, 5, 1, 0, 1, 1, source="LeNet-5, LeCun et al. 1998"),
    conv("cifar_c1", 64, 3, 32, 32, 32, 3, 3, 1, 1, 1, 1, source="a four-convolution CIFAR-10 net"),
    conv("cifar_c2", 64, 32, 32, 32, 64, 3, 3, 1, 1, 1, 1, source="a four-convolution CIFAR-10 net"),
    conv("alex_c1", 4, 3, 224, 224, 64, 11, 11, 4, 2, 1, 1, source="AlexNet, Krizhevsky 2014"),
    conv("alex_c2", 4, 64, 27, 27, 192, 5, 5, 1, 2, 1, 1, source="AlexNet, Krizhevsky 2014"),
    conv("vgg_1_1", 2, 3, 224, 224, 64, 3, 3, 1, 1, 1, 1, source="VGG16, Simonyan & Zisserman 2014"),
    conv("vgg_1_2", 1, 64, 224, 224, 64, 3, 3, 1, 1, 1, 1, source="VGG16, Simonyan & Zisserman 2014"),
    conv("vgg_3_2", 2, 256, 56, 56, 256, 3, 3, 1, 1, 1, 1, source="VGG16, Simonyan & Zisserman 2014"),
    conv("vgg_5_1", 4, 512, 14, 14, 512, 3, 3, 1, 1, 1, 1, source="VGG16, Simonyan & Zisserman 2014"),
    conv("r50_stem", 4, 3, 224, 224, 64, 7, 7, 2, 3, 1, 1, source="ResNet-50, He et al. 2015"),
    conv("r50_1x1a", 4, 64, 56, 56, 256, 1, 1, 1, 0, 1, 1, source="ResNet-50, He et al. 2015"),
    conv("r50_3x3a", 4, 64, 56, 56, 64, 3, 3, 1, 1, 1, 1, source="ResNet-50, He et al. 2015"),
    conv("r50_3x3s2", 4, 128, 56, 56, 128, 3, 3, 2, 1, 1, 1, source="ResNet-50, He et al. 2015"),
    conv("r50_1x1s2", 4, 256, 56, 56, 512, 1, 1, 2, 0, 1, 1, source="ResNet-50, He et al. 2015"),
    conv("r50_3x3c", 4, 256, 14, 14, 256, 3, 3, 1, 1, 1, 1, source="ResNet-50, He et al. 2015"),
    conv("r50_3x3d", 4, 512, 7, 7, 512, 3, 3, 1, 1, 1, 1, source="ResNet-50, He et al. 2015"),
    conv("r50_1x1d", 4, 2048, 7, 7, 512, 1, 1, 1, 0, 1, 1, source="ResNet-50, He et al. 2015"),
    conv("mbv2_dw_s2", 4, 96, 112, 112, 96, 3, 3, 2, 1, 1, 96, source="MobileNetV2, Sandler et al. 2018"),
    conv("mbv2_dw", 4, 144, 56, 56, 144, 3, 3, 1, 1, 1, 144, source="MobileNetV2, Sandler et al. 2018"),
    conv("mbv2_dw14", 4, 384, 14, 14, 384, 3, 3, 1, 1, 1, 384, source="MobileNetV2, Sandler et al. 2018"),
    conv("mbv2_pw", 4, 144, 56, 56, 24, 1, 1, 1, 0, 1, 1, source="MobileNetV2, Sandler et al. 2018"),
    conv("resnext_g32", 4, 128, 56, 56, 128, 3, 3, 1, 1, 1, 32, source="ResNeXt-50, Xie et al. 2016"),
    conv("convnext_dw", 4, 96, 56, 56, 96, 7, 7, 1, 3, 1, 96, source="ConvNeXt, Liu et al. 2022"),
    conv("deeplab_d2", 2, 256, 33, 33, 256, 3, 3, 1, 2, 2, 1, source="DeepLab, Chen et al. 2016"),
    conv("replk_dw31", 1, 128, 56, 56, 128, 31, 31, 1, 15, 1, 128, source="RepLKNet, Ding et al. 2022"),
)

CONV1D = (
    conv_nd("w2v_c1", 1, 1, (16000,), 512, 10, stride=5, source="wav2vec 2.0, Baevski et al. 2020"),
    conv_nd("w2v_c2", 1, 512, (3199,), 512, 3, stride=2, source="wav2vec 2.0, Baevski et al. 2020"),
    conv_nd("whisper_c1", 1, 80, (3000,), 384, 3, padding=1, source="Whisper tiny, Radford et al. 2022"),
    conv_nd(
        "whisper_c2", 1, 384, (3000,), 384, 3, stride=2, padding=1, source="Whisper tiny, Radford et al. 2022"
    ),
    conv_nd("wavenet_d512", 1, 32, (16000,), 64, 2, dilation=512, source="WaveNet, van den Oord et al. 2016"),
    conv_nd("tcn_d16", 32, 25, (784,), 25, 7, padding=96, dilation=16, source="TCN, Bai et al. 2018"),
    conv_nd("charcnn_c1", 16, 70, (1014,), 256, 7, source="character CNN, Zhang et al. 2015"),
    conv_nd(
        "kws_s2", 64, 16, (98,), 24, 9, stride=2, padding=4, source="TC-ResNet8 keywords, Choi et al. 2019"
    ),
    conv_nd(
        "quartz_dw", 4, 256, (400,), 256, 33, padding=16, groups=256, source="QuartzNet, Kriman et al. 2019"
    ),
    conv_nd("m5_c1", 8, 1, (8000,), 128, 80, stride=4, source="M5 raw audio, Dai et al. 2016"),
)

CONV3D = (
    conv_nd("c3d_c1", 1, 3, (16, 112, 112), 64, 3, padding=1, source="C3D, Tran et al. 2014"),
    conv_nd("c3d_c5", 1, 512, (2, 7, 7), 512, 3, padding=1, source="C3D, Tran et al. 2014"),
    conv_nd("i3d_stem", 1, 3, (16, 112, 112), 64, 7, stride=2, padding=3, source="I3D, Carreira 2017"),
    conv_nd("i3d_1x1", 1, 192, (8, 28, 28), 64, 1, source="I3D, Carreira 2017"),
    conv_nd(
        "r2p1d_space", 2, 64, (8, 56, 56), 144, (1, 3, 3), padding=(0, 1, 1), source="R(2+1)D, Tran 2017"
    ),
    conv_nd("r2p1d_time", 2, 144, (8, 56, 56), 64, (3, 1, 1), padding=(1, 0, 0), source="R(2+1)D, Tran 2017"),
    conv_nd("r3d_s2", 1, 128, (8, 28, 28), 256, 3, stride=2, padding=1, source="R3D-18, Tran 2017"),
    conv_nd("unet3d_enc", 1, 32, (16, 48, 48), 64, 3, padding=1, source="3D U-Net, Cicek et al. 2016"),
    conv_nd("x3d_dw", 1, 54, (16, 56, 56), 54, 3, padding=1, groups=54, source="X3D-M, Feichtenhofer 2020"),
    conv_nd(
        "slowfast_t",
        1,
        32,
        (16, 56, 56),
        8,
        (3, 1, 1),
        padding=(1, 0, 0),
        source="SlowFast, Feichtenhofer 2018",
    ),
)

# (N, C, H, W, K, R, S, stride, padding, output padding)
CONV_TRANSPOSE2D = (
    conv_transpose("dcgan_g1", 16, 100, 1, 1, 1024, 4, 4, 1, 0, 0, source="DCGAN, Radford et al. 2015"),
    conv_transpose("dcgan_g2", 16, 1024, 4, 4, 512, 5, 5, 2, 2, 1, source="DCGAN, Radford et al. 2015"),
    conv_transpose("dcgan_g5", 16, 128, 32, 32, 3, 5, 5, 2, 2, 1, source="DCGAN, Radford et al. 2015"),
    conv_transpose("unet_up1", 1, 1024, 28, 28, 512, 2, 2, 2, 0, 0, source="U-Net, Ronneberger et al. 2015"),
    conv_transpose("unet_up4", 1, 128, 196, 196, 64, 2, 2, 2, 0, 0, source="U-Net, Ronneberger et al. 2015"),
    conv_transpose("fsrcnn_x3", 4, 56, 32, 32, 1, 9, 9, 3, 4, 2, source="FSRCNN, Dong et al. 2016"),
    conv_transpose("fcn8s_up8", 1, 21, 34, 34, 21, 16, 16, 8, 4, 0, source="FCN-8s, Long et al. 2014"),
    conv_transpose(
        "linknet_up", 2, 64, 56, 56, 64, 3, 3, 2, 1, 1, source="LinkNet, Chaurasia & Culurciello 2017"
    ),
    conv_transpose("pix2pix_up", 1, 1024, 16, 16, 256, 4, 4, 2, 1, 0, source="pix2pix, Isola et al. 2016"),
    conv_transpose(
        "pose_up", 4, 2048, 8, 6, 256, 4, 4, 2, 1, 0, source="SimpleBaseline pose, Xiao et al. 2018"
    ),
)

PROBLEMS = {p.name: p for p in (*CONV2D, *CONV1D, *CONV3D, *CONV_TRANSPOSE2D)}


def _large_3x3(p: Problem) -> bool:
    plain = set(p.window) == {3} and {*p.stride, *p.dilation, p.groups} == {1}
    return plain and min(p.c, p.k) >= 32 and min(p.out_size) >= 14


# Groups say what the problems have in common; a problem may be in several.
GROUPS: dict[str, Callable[[Problem], bool]] = {
    "conv2d": lambda p: p.op == "conv2d",
    "conv1d": lambda p: p.op == "conv1d",
    "conv3d": lambda p: p.op == "conv3d",
    "conv_transpose2d": lambda p: p.op == "conv_transpose2d",
    "small": lambda p: p.op == "conv2d" and p.flops < 5e7,
    "first-layer": lambda p: p.op == "conv2d" and p.c <= 3,
    "large3x3": lambda p: p.op == "conv2d" and _large_3x3(p),
    "1x1": lambda p: p.op == "conv2d" and p.window == (1, 1),
    "strided": lambda p: p.op == "conv2d" and max(p.stride) > 1,
    "dilated": lambda p: p.op == "conv2d" and max(p.dilation) > 1,
    "depthwise": lambda p: p.op == "conv2d" and p.groups == p.c > 1,
    "grouped": lambda p: p.op == "conv2d" and 1 < p.groups < p.c,
}


def select(patterns: Sequence[str]) -> list[Problem]:
    """The problems that match any of the names, groups or globs, in the order of the lists.

    Raises
    ------
    ValueError
        Where a pattern matches nothing; the message lists the groups and names.

    Examples
    --------
    >>> [p.name for p in select(["grouped", "mbv2_dw*"])]
    ['mbv2_dw_s2', 'mbv2_dw', 'mbv2_dw14', 'resnext_g32']
    """
    chosen: set[str] = set()
    for pattern in patterns:
        member = GROUPS.get(pattern)
        found = {p.name for p in PROBLEMS.values() if (member(p) if member else fnmatchcase(p.name, pattern))}
        if not found:
            raise ValueError(
                f"problems: {pattern!r} matches nothing: it must be a group ({', '.join(GROUPS)}), "
                f"a name or a glob of names ({', '.join(PROBLEMS)})"
            )
        chosen |= found
    return [p for p in PROBLEMS.values() if p.name in chosen]
