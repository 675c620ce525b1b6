"""Pictures of nets: each function draws on a matplotlib Figure and returns it.

Every function takes `figure`, a Figure or SubFigure to draw on; by default it makes a new one. Save one with
``figure.savefig("name.png")``. Needs matplotlib (``pip install 'fastconv[digits]'``).
"""

from fastconv.plots.canvas import gallery
from fastconv.plots.functions import activation, gradient_norms
from fastconv.plots.inside import activation_maximization, occlusion_map, receptive_field
from fastconv.plots.maps import feature_maps, filters
from fastconv.plots.scores import confusion_matrix, misclassified, training_curves

__all__ = [
    "activation",
    "activation_maximization",
    "confusion_matrix",
    "feature_maps",
    "filters",
    "gallery",
    "gradient_norms",
    "misclassified",
    "occlusion_map",
    "receptive_field",
    "training_curves",
]
