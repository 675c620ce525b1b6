"""The examples of docs/adapting.md, run."""

import re
from pathlib import Path

import numpy as np
from numerical import numerical_grad

PAGE = (Path(__file__).parents[2] / "docs" / "adapting.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_layers_of_the_example():
    net = {}
    exec(BLOCKS[0], net)
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(shape) for shape in ((2, 2, 5, 6), (3, 2, 3, 3), (3,)))
    conv, pool = net["Convolution"](w, b, stride=1, pad=1), net["MaxPooling"](2)
    y = pool.forward(conv.forward(x))
    dy = rng.standard_normal(y.shape)
    dx = conv.backward(pool.backward(dy))
    for grad, value in ((dx, x), (conv.dw, w), (conv.db, b)):
        want = numerical_grad(lambda: (pool.forward(conv.forward(x)) * dy).sum(), value)
        np.testing.assert_allclose(grad, want, rtol=0, atol=1e-7)


def test_the_patch_of_the_example(capsys):
    exec(BLOCKS[1], {})
    assert capsys.readouterr().out.split() == ["2.0", "2"]
