"""Nets with the layer lists of their papers."""

from fastconv.nn.alexnet import AlexNet, alexnet_augment
from fastconv.nn.deep import VGG16, ResNet18, ResNet50
from fastconv.nn.lenet import MLP, LeNet5
from fastconv.nn.neocognitron import Neocognitron

__all__ = ["MLP", "VGG16", "AlexNet", "LeNet5", "Neocognitron", "ResNet18", "ResNet50", "alexnet_augment"]
