"""7. LeNet-5 (1998) learns digits; then look inside."""

import fastconv as fc
from fastconv import plots
from fastconv.lecture.material import enlarge
from fastconv.models import LeNet5
from fastconv.nn import one_cycle, random_shift
from fastconv.tools.datasets import digits

data = digits()
x, x_test = enlarge(data.x_train), enlarge(data.x_test)  # 8x8 -> 28x28, as MNIST is
net = LeNet5(seed=0)
print(net.summary((1, 28, 28)))
history = net.fit(
    x,
    data.y_train,
    epochs=6,
    optimizer=fc.Adam(4e-3),
    schedule=one_cycle(),
    augment=random_shift(2),
    validation_data=(x_test, data.y_test),
    seed=0,
)
predictions = net.predict(x_test)
speed = 6 * len(x) / sum(history["seconds"])
print(f"test accuracy {(predictions == data.y_test).mean():.2%}, {speed:,.0f} images a second")

image = x_test[0]
pictures = {
    "curves": plots.training_curves(history),
    "confusion": plots.confusion_matrix(data.y_test, predictions),
    "mistakes": plots.misclassified(x_test, data.y_test, predictions),
    "filters": plots.filters(net),
    "maps": plots.feature_maps(net, image),
    "field": plots.receptive_field(net, image, 5),
    "occlusion": plots.occlusion_map(net, image, patch=5),
    "dreams": plots.activation_maximization(net, input_shape=(1, 28, 28), steps=50),
}
for name, figure in pictures.items():
    figure.savefig(f"lenet_{name}.png")
print("pictures:", ", ".join(f"lenet_{name}.png" for name in pictures))
