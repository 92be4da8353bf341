"""OFA's own networks, from the package ``ofa``, which wants torchvision for images alone."""

import importlib.util
import sys
import types
from typing import Any

import pytest

_IMAGES = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")


def reference(space: str) -> Any:
    """OFA's supernet of a space, with weights of chance; skips where ``ofa`` is missing."""
    pytest.importorskip("ofa", reason="needs the package ofa: pip install lutra[dev]")
    without_images()
    from ofa.imagenet_classification.elastic_nn import networks

    mbconv = {"ks_list": [3, 5, 7], "expand_ratio_list": [3, 4, 6], "depth_list": [2, 3, 4]}
    resnet = {
        "depth_list": [0, 1, 2],
        "expand_ratio_list": [0.2, 0.25, 0.35],
        "width_mult_list": [0.65, 0.8, 1.0],
    }
    name, settings, epsilon = {
        "ofa-mbv3-w1.0": ("OFAMobileNetV3", {**mbconv, "width_mult": 1.0}, 1e-5),
        "ofa-mbv3-w1.2": ("OFAMobileNetV3", {**mbconv, "width_mult": 1.2}, 1e-5),
        "ofa-proxyless-w1.3": ("OFAProxylessNASNets", {**mbconv, "width_mult": 1.3}, 1e-3),
        "ofa-resnet50d": ("OFAResNets", resnet, 1e-5),
    }[space]
    network = getattr(networks, name)
    return network(n_classes=1000, bn_param=(0.1, epsilon), dropout_rate=0, **settings)


def without_images() -> None:
    """Stand-ins for what is imported but not used, where torchvision is not there."""
    if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is None:
        modules: Any = [types.ModuleType(name) for name in (*_IMAGES, "torchvision.datasets")]
        root, transforms, functional, datasets = modules
        root.transforms, root.datasets = transforms, datasets
        transforms.functional = functional
        transforms.RandomResizedCrop = transforms.Compose = object
        sys.modules.update({module.__name__: module for module in modules})
