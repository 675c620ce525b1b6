"""The layers, under their public import path."""

from fastconv.nn.activations import LeakyReLU, ReLU, Sigmoid, Softmax, Step, Tanh
from fastconv.nn.blocks import GlobalAvgPool2d, Residual
from fastconv.nn.layer import Container, Layer
from fastconv.nn.layers import AvgPool2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d
from fastconv.nn.model import Sequential
from fastconv.nn.norm import BatchNorm2d, LocalResponseNorm

__all__ = [
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
    "ReLU",
    "Residual",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Step",
    "Tanh",
]
