"""A network as ONNX, which runs without torch."""

from importlib import import_module
from pathlib import Path

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from launch.folders import atomic_output


def write_onnx(encoder: nn.Module, view: Tensor, path: Path) -> None:
    """With an input called `input`, of any number of examples like those of `view`, and an output `features`.

    Raises:
        MisconfigurationException: a package is missing, or torch.onnx cannot express the network.
    """
    for package in ("onnx", "onnxscript"):
        try:
            import_module(package)
        except ImportError:
            raise MisconfigurationException(
                f"ONNX needs {package}: pip install onnx onnxscript (the rest of the export is in {path.parent})"
            ) from None
    with atomic_output(path) as part:
        try:
            torch.onnx.export(
                encoder,
                (view,),
                part,
                input_names=["input"],
                output_names=["features"],
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
                external_data=False,
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError:
            raise MisconfigurationException(
                f"torch.onnx cannot express {type(encoder).__name__} for any number of examples: use "
                f"{path.with_suffix('.safetensors')}, which is written"
            ) from None
