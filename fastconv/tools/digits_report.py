"""The digits report: one page of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastconv import plots
from fastconv.nn import MaxPool2d, ReLU
from fastconv.tools.extras import require

if TYPE_CHECKING:
    from fastconv.tools.digits import Training


def draw(trainings: Sequence[Training]) -> Any:
    """Curves, filters and feature maps of the first seed; the mistakes of all seeds on their test digits."""
    net, data = trainings[0].net, trainings[0].data
    x = np.concatenate([t.data.x_test for t in trainings])
    labels = np.concatenate([t.data.y_test for t in trainings])
    predictions = np.concatenate([t.net.predict(t.data.x_test) for t in trainings])
    figure = require("matplotlib.figure", "the report").Figure(
        figsize=(13, 12.5), layout="constrained", dpi=110
    )
    splits = f"{len(trainings)} splits" if len(trainings) > 1 else "one split"
    share = np.mean(labels == predictions)
    figure.suptitle(
        f"scikit-learn's digits: {share:.2%} of {len(labels)} test digits right ({splits})", size=15
    )
    curves, middle, maps, bottom = figure.subfigures(4, 1, height_ratios=(3.2, 4.2, 2.3, 2.2), hspace=0.03)
    plots.training_curves(trainings[0].history, figure=curves)
    left, right = middle.subfigures(1, 2)
    plots.confusion_matrix(labels, predictions, data.classes, figure=left)
    plots.filters(net, figure=right)
    shown = [i for i, layer in enumerate(net.layers) if isinstance(layer, (ReLU, MaxPool2d))]
    plots.feature_maps(net, data.x_test[0], shown, figure=maps)
    plots.misclassified(x, labels, predictions, data.classes, limit=26, columns=13, figure=bottom)
    return figure
