"""8. AlexNet (2012) and what came after: parameters, augmentation, one training step on photographs."""

import numpy as np
from sklearn.datasets import load_sample_images

import fastconv as fc
from fastconv.models import AlexNet, LeNet5, ResNet18, alexnet_augment

for net, shape in (
    (LeNet5(form="1998"), (1, 28, 28)),
    (AlexNet(), (3, 224, 224)),
    (ResNet18(), (3, 224, 224)),
):
    print(f"{type(net).__name__:<9} {net.summary(shape).total:>11,} parameters")

photographs = np.stack(
    [image[85:341, 192:448] for image in load_sample_images().images]
)  # a temple, a flower
x = np.ascontiguousarray(photographs.transpose(0, 3, 1, 2), np.float32) / 255 - 0.5
labels = np.array([0, 1])
augment, rng = alexnet_augment(x), np.random.default_rng(0)  # crops, mirror images, colours
net, optimizer = AlexNet(2, seed=0), fc.SGD(0.01, momentum=0.9, weight_decay=5e-4)
logits = net(augment(x, rng))
loss, dlogits = fc.softmax_cross_entropy(logits, labels)
net.backward(dlogits)
optimizer.step(net.params, net.grads)
print(f"one step: loss {loss:.3f}, gradient of conv1 {np.abs(net.grads['0.w']).max():.1e} at most")
