"""Is the installed fastconv whole? Read from standard input, so that the current folder is on the path.

python - (compiled | pure) < .ci/smoke.py
"""

import sys
import warnings

import numpy as np

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import fastconv as fc

compiled = sys.argv[1] == "compiled"
available = {row["kernel"] for row in fc.kernels() if row["available"] == "yes"}
assert any(name.startswith("cython.") for name in available) == compiled, fc.kernels()
messages = [str(w.message) for w in caught]
assert [("without its compiled kernels" in m) for m in messages] == ([] if compiled else [True]), messages

rng = np.random.default_rng(0)
x, w = rng.integers(-4, 5, (2, 4, 9, 9)).astype("f"), rng.integers(-4, 5, (6, 4, 3, 3)).astype("f")
y = fc.conv2d(x, w, padding=1, kernel="reference")
dx, dw = (
    fc.conv2d_input_grad(y, w, x.shape, padding=1, kernel="reference"),
    fc.conv2d_filter_grad(x, y, w.shape, padding=1, kernel="reference"),
)
with fc.use(precision="highest"):
    for name in (None, *sorted(n for n in available if n.endswith((".direct", ".im2col")))):
        assert (fc.conv2d(x, w, padding=1, kernel=name) == y).all(), name
        assert (fc.conv2d_input_grad(y, w, x.shape, padding=1, kernel=name) == dx).all(), name
        assert (fc.conv2d_filter_grad(x, y, w.shape, padding=1, kernel=name) == dw).all(), name
pooled, argmax = fc.max_pool2d(x, 3, return_argmax=True)
assert fc.max_pool2d_grad(pooled, argmax, x.shape).sum() == pooled.sum()
print("fastconv", fc.__version__, "from", fc.__file__, "with", ", ".join(sorted(available)))
