"""Other NumPy nets on fastconv: `import fastconv.adapters.HOST as a; a.install()`.

    with a.installed():    # or a.install() ... a.uninstall()
        ...                # the host's own API, with the host's own semantics

`python -m fastconv.adapters` lists the hosts. An adapter's module imports its host; this package does not.
"""

from __future__ import annotations

from fastconv.adapters.base import Host

# An adapter's module here -> its host and the versions it was tested with, in the documentation's order.
HOSTS = {
    "onnx": Host("ONNX", "onnx", "onnx", ("1.23", "1.23")),
    "mygrad": Host("MyGrad", "mygrad", "mygrad", ("2.5", "2.5")),
    "cs231n": Host("CS231n", "cs231n"),
    "autograd": Host("autograd", "autograd", "autograd", ("1.9", "1.9")),
    "pygad": Host("PyGAD", "pygad", "pygad", ("3.9", "3.9")),
    "nengo": Host("Nengo", "nengo", "nengo", ("4.1", "4.1")),
    "scipy": Host("SciPy", "scipy", "scipy", ("1.17", "1.17")),
    "dlfs": Host("Deep Learning from Scratch", "common"),
    "keras": Host("Keras", "keras", "keras", ("3.15", "3.15")),
}
