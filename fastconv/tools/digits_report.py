"""The digits report: one page of pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastconv import plots
from fastconv.tools.extras import require

if TYPE_CHECKING:
    from fastconv.tools.digits import Training


def draw(training: Training) -> Any:
    """Curves, confusion matrix, misclassified digits, filters, and the feature maps of one digit."""
    net, data = training.net, training.data
    predictions = net.predict(data.x_test)
    figure = require("matplotlib.figure", "the report").Figure(
        figsize=(13, 13), layout="constrained", dpi=110
    )
    figure.suptitle(f"scikit-learn's digits: {training.accuracy:.2%} of the test digits right", size=15)
    curves, middle, bottom, maps = figure.subfigures(4, 1, height_ratios=(3.4, 4.4, 1.6, 2.6), hspace=0.03)
    plots.training_curves(training.history, figure=curves)
    left, right = middle.subfigures(1, 2)
    plots.confusion_matrix(data.y_test, predictions, data.classes, figure=left)
    plots.filters(net, figure=right)
    plots.misclassified(
        data.x_test, data.y_test, predictions, data.classes, limit=12, columns=12, figure=bottom
    )
    plots.feature_maps(net, data.x_test[0], figure=maps)
    return figure
