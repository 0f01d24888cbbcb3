"""The one door to timm and torchvision, opened when a vision transformer is made and never for a table."""

from functools import cache
from importlib import import_module
from sys import modules
from typing import Any

import torch

SCHEMAS = {
    "torchvision::nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
"""Operators that torchvision describes to torch while it is imported, whether or not it could load them."""


@cache
def timm() -> Any:
    """The package timm.

    It imports torchvision. Beside a CPU build of torch, a torchvision built for CUDA cannot load its operators, and
    its import fails when it describes the missing ones ("operator torchvision::nms does not exist"). Nothing here uses
    them, so they are declared, without kernels, and the import starts anew.
    """
    try:
        import_module("torchvision")
    except RuntimeError as error:
        if not any(f"operator {name} does not exist" in str(error) for name in SCHEMAS):
            raise
        # A failed import leaves the submodules that it had finished, bound to a package that is gone.
        for name in [name for name in modules if name.partition(".")[0] == "torchvision"]:
            del modules[name]
        for name, schema in SCHEMAS.items():
            torch.library.define(name, schema)
        import_module("torchvision")
    return import_module("timm")
