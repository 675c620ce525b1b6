"""Layers, losses, optimizers and training: enough to train a convolutional net, no autograd engine."""

from fastconv.nn.activations import (
    LeakyReLU,
    ReLU,
    Sigmoid,
    Softmax,
    Step,
    Tanh,
    leaky_relu,
    relu,
    sigmoid,
    softmax,
    step,
    tanh,
)
from fastconv.nn.augment import compose, random_crop, random_flip, random_shift
from fastconv.nn.blocks import GlobalAvgPool2d, Residual
from fastconv.nn.layer import Container, Layer
from fastconv.nn.layers import AvgPool2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d
from fastconv.nn.losses import mean_squared_error, softmax_cross_entropy
from fastconv.nn.model import Sequential
from fastconv.nn.norm import BatchNorm2d, LocalResponseNorm
from fastconv.nn.optim import SGD, Adam, Optimizer, cosine, one_cycle, steps
from fastconv.nn.training import Trainer

__all__ = [
    "SGD",
    "Adam",
    "AvgPool2d",
    "BatchNorm2d",
    "Container",
    "Conv2d",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "Layer",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "MaxPool2d",
    "Optimizer",
    "ReLU",
    "Residual",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Step",
    "Tanh",
    "Trainer",
    "compose",
    "cosine",
    "leaky_relu",
    "mean_squared_error",
    "one_cycle",
    "random_crop",
    "random_flip",
    "random_shift",
    "relu",
    "sigmoid",
    "softmax",
    "softmax_cross_entropy",
    "step",
    "steps",
    "tanh",
]
