"""What a trained net looks at: outputs of every layer, occlusion, the image a unit likes most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from fastconv.nn.activations import Softmax
from fastconv.nn.layer import Seed, checked_number, generator
from fastconv.nn.layers import Conv2d
from fastconv.nn.model import Sequential
from fastconv.ops.arrays import Array
from fastconv.ops.conv2d import conv2d
from fastconv.ops.errors import bad_value
from fastconv.ops.parse import parse_int, parse_sequence


@contextmanager
def evaluating(net: Sequential) -> Iterator[None]:
    """Evaluation mode, and afterwards each layer's mode as it was."""
    modes = [(layer, layer.training) for layer in net.walk()]
    net.eval()
    try:
        yield
    finally:
        net.forget()
        for layer, training in modes:
            layer.training = training


def checked_image(op: str, net: Sequential, image: Array) -> Array:
    """One image, (C, H, W) or (H, W, C) as the net takes it, in the net's dtype."""
    image = np.asarray(image)
    if image.ndim != 3:
        hint = "; image[0] of a batch of one" if image.ndim == 4 else ""
        bad_value(op, f"image has shape {image.shape}", f"it must be one image, (C, H, W){hint}")
    return image.astype(net.dtype)


def channels_last(net: Sequential) -> bool:
    """Whether the net takes (N, H, W, C)."""
    return any(isinstance(layer, Conv2d) and layer.channels_last for layer in net.walk())


def layer_outputs(net: Sequential, image: Array) -> list[Array]:
    """Each layer's output for one image, (1, ...), in evaluation mode.

    Parameters
    ----------
    net : Sequential
    image : ndarray (C, H, W)
    """
    x = checked_image("layer_outputs", net, image)[None]
    found = []
    with evaluating(net):
        for layer in net.layers:
            x = layer.forward(x)
            found.append(x)
    return found


def layer_index(op: str, net: Sequential, layer: int) -> int:
    """`layer` as an index from 0; negative ones count from the end, as in a list."""
    layer = parse_int(op, "layer", layer, -len(net))
    if layer >= len(net):
        bad_value(op, f"layer is {layer}", f"it must be below {len(net)}, the number of layers")
    return layer % len(net)


def unit_gradient(
    net: Sequential, image: Array, layer: int, unit: tuple[int, int, int] | None = None
) -> tuple[tuple[int, int, int], Array]:
    """The gradient of one unit's output with respect to the image, summed over the image's channels.

    Parameters
    ----------
    net : Sequential
    image : ndarray (C, H, W)
    layer : int
        Index of a layer whose outputs are maps.
    unit : (int, int, int), optional
        Channel, row and column; default: in the middle, the channel that answers most.

    Returns
    -------
    unit : (int, int, int)
        The given one, or the one that was taken.
    gradient : ndarray (H, W)

    Raises
    ------
    ValueError, TypeError
        Where the layer has no maps, or the unit is not in them.
    """
    op, last = "unit_gradient", channels_last(net)
    image = checked_image(op, net, image)
    part = Sequential(*net.layers[: layer_index(op, net, layer) + 1])
    with evaluating(net):
        y = part(image[None])
        if y.ndim != 4:
            bad_value(op, f"layer {layer} gives shape {y.shape[1:]}", "it must give maps, (C, H, W)")
        maps = np.moveaxis(y[0], -1, 0) if last else y[0]
        if unit is None:
            row, column = maps.shape[1] // 2, maps.shape[2] // 2
            unit = int(maps[:, row, column].argmax()), row, column
        needed = f"it must be (channel, row, column) within {maps.shape}"
        place = parse_sequence(op, "unit", unit, needed)
        if len(place) != 3 or any(
            parse_int(op, "unit", at, 0) >= maps.shape[i] for i, at in enumerate(place)
        ):
            bad_value(op, f"unit is {unit}", needed)
        dy = np.zeros_like(y)
        dy[(0, *unit[1:], unit[0]) if last else (0, *unit)] = 1
        dx = part.backward(dy, input_grad=True)
    assert dx is not None
    return unit, dx[0].sum(-1 if last else 0)


def occlusion(
    net: Sequential,
    image: Array,
    label: int | None = None,
    *,
    patch: int = 3,
    stride: int = 1,
    fill: float | None = None,
) -> Array:
    """The probability of a class with a patch of the image hidden, for every place of the patch.

    Parameters
    ----------
    net : Sequential
    image : ndarray (C, H, W)
    label : int, optional
        Default: the class that the net gives the whole image.
    patch : int, default 3
        Side of the hidden square. It is centred on each pixel in turn and clipped at the border.
    stride : int, default 1
        Pixels between its places.
    fill : float, optional
        What the patch is filled with; default: the image's mean.

    Returns
    -------
    ndarray (ceil(H / stride), ceil(W / stride))

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit.

    References
    ----------
    Zeiler, Fergus: Visualizing and understanding convolutional networks (2014), section 4.2.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> from fastconv.nn.inside import occlusion
    >>> net = fc.Sequential(fc.Flatten(), fc.Linear(16, 2), seed=0)
    >>> occlusion(net, np.ones((1, 4, 4)), 0, patch=1, stride=2).shape
    (2, 2)
    """
    op = "occlusion"
    image = checked_image(op, net, image)
    patch, stride = parse_int(op, "patch", patch, 1), parse_int(op, "stride", stride, 1)
    value = image.mean() if fill is None else checked_number(op, "fill", fill, -np.inf)
    whole = net.predict_proba(image[None])[0]
    label = int(whole.argmax()) if label is None else parse_int(op, "label", label, 0)
    if label >= len(whole):
        bad_value(op, f"label is {label}", f"it must be below {len(whole)}, the number of classes")
    plane = image[..., 0] if channels_last(net) else image[0]
    rows, columns = range(0, plane.shape[0], stride), range(0, plane.shape[1], stride)
    hidden = np.repeat(image[None], len(columns), 0)
    found = np.empty((len(rows), len(columns)), net.dtype)
    for i, row in enumerate(rows):  # a row of places is a batch
        hidden[:] = image
        for batch, column in zip(hidden, columns, strict=True):
            window = tuple(slice(max(at - patch // 2, 0), at - patch // 2 + patch) for at in (row, column))
            batch[(*window, slice(None)) if channels_last(net) else (slice(None), *window)] = value
        found[i] = net.predict_proba(hidden)[:, label]
    return found


def maximize_activation(
    net: Sequential,
    units: Sequence[int] | None = None,
    *,
    layer: int = -1,
    input_shape: Sequence[int],
    steps: int = 100,
    lr: float = 1.0,
    decay: float = 0.01,
    blur: float = 0.5,
    seed: Seed = 0,
) -> Array:
    """Images, grown from noise by gradient ascent, that excite units of a layer most.

    Each step follows the gradient of the unit's mean output with respect to the image, scaled to length 1,
    then shrinks the image a little and blurs it; without these the answer is noise that no eye can read.

    Parameters
    ----------
    net : Sequential
    units : sequence of int, optional
        Channels or outputs of the layer; default: all.
    layer : int, default -1
        Index of the layer. A convolution or linear layer answers better than the ReLU after it, which has no
        gradient where it is silent.
    input_shape : (int, int, int)
        C, H, W
    steps : int, default 100
    lr : float, default 1
        Length of a step.
    decay : float, default 0.01
        Part of the image that each step takes away.
    blur : float, default 0.5
        Standard deviation in pixels of the Gaussian after each step; 0 for none.
    seed : int or numpy.random.Generator, default 0
        Of the noise.

    Returns
    -------
    ndarray (units, C, H, W)

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit.

    References
    ----------
    Erhan et al.: Visualizing higher-layer features of a deep network (2009); Yosinski et al.: Understanding
    neural networks through deep visualization (2015).

    Examples
    --------
    >>> import fastconv as fc
    >>> from fastconv.nn.inside import maximize_activation
    >>> net = fc.Sequential(fc.Conv2d(1, 4, 3), fc.ReLU(), seed=0)
    >>> maximize_activation(net, [0, 2], input_shape=(1, 8, 8), steps=5).shape
    (2, 1, 8, 8)
    """
    op = "maximize_activation"
    part = Sequential(*net.layers[: layer_index(op, net, layer) + 1])
    if isinstance(part[-1], Softmax):
        bad_value(op, "the layer is a Softmax", "its outputs hold each other down: take the layer before it")
    steps, lr = parse_int(op, "steps", steps, 1), checked_number(op, "lr", lr, 0.0)
    decay, blur = checked_number(op, "decay", decay, 0.0, below=1.0), checked_number(op, "blur", blur, 0.0)
    axis = -1 if channels_last(net) else 1
    with evaluating(net):
        width = part(np.zeros((0, *input_shape), net.dtype)).shape[axis]
        units = list(range(width)) if units is None else [parse_int(op, "units", unit, 0) for unit in units]
        if max(units, default=0) >= width:
            bad_value(op, f"units are {units}", f"they must be below {width}, the layer's width")
        x = (0.1 * generator(seed).standard_normal((len(units), *input_shape))).astype(net.dtype)
        for _ in range(steps):
            dy = np.zeros_like(part(x))
            np.moveaxis(dy, axis, 1)[range(len(units)), units] = 1
            dx = part.backward(dy, input_grad=True)
            assert dx is not None
            length = np.sqrt((dx * dx).sum((1, 2, 3), keepdims=True))
            x = x + x.dtype.type(lr) * dx / np.maximum(length, 1e-12)
            x = blurred((1 - decay) * x, blur, axis)
    return x


def blurred(x: Array, deviation: float, axis: int) -> Array:
    """Each plane convolved with a Gaussian of three deviations to each side."""
    if deviation == 0:
        return x
    reach = max(round(3 * deviation), 1)
    line = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    line /= line.sum()
    planes = np.moveaxis(x, axis, 1)
    flat = planes.reshape(-1, 1, *planes.shape[2:])
    w = np.outer(line, line)[None, None].astype(x.dtype)
    y = conv2d(flat, w, padding="same", padding_mode="replicate").reshape(planes.shape)
    return np.moveaxis(y, 1, axis)
