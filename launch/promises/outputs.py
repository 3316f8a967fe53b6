"""What a step's output promises: entries that callbacks read, of the shapes that they rely on."""

from typing import Any

import torch
from torch import Tensor

from launch.promises.promise import Finding, PromiseCheck, Subject, are_close, format_tensor

SCALARS = ("loss", "metrics", "count")


def measure_loss(subject: Subject) -> Finding:
    loss = subject.outputs["loss"]
    kept = loss.ndim == 0 and loss.requires_grad and bool(loss.isfinite().all())
    measured = format_tensor(loss) if loss.ndim else f"{loss.item():.5g}"
    return kept, f"{measured}, {'with' if loss.requires_grad else 'without'} a gradient"


def measure_features(subject: Subject) -> Finding:
    if "features" not in subject.outputs:
        return None, "left out in training: probes read those of validation and bank"
    features, expected = subject.outputs["features"], (len(subject.batch.index), subject.module.encoder.dim)
    kept = features.shape == expected and bool(features.isfinite().all())
    return kept, format_tensor(features)


def measure_metrics(subject: Subject) -> Finding:
    metrics, count = subject.outputs["metrics"], subject.outputs["count"]
    values = {**metrics, "count": count}
    bad = [name for name, value in values.items() if torch.is_tensor(value) and value.numel() != 1]
    bad += [name for name, value in values.items() if torch.is_tensor(value) and value.requires_grad]
    bad += [name for name, value in metrics.items() if not torch.is_tensor(value)]
    if bad:
        return False, f"no detached scalars are {', '.join(bad)}"
    return True, f"{', '.join(metrics)}; means over {float(count):g}"


def describe_fault(name: str, value: Any, examples: int) -> str:
    """What is wrong with an output; empty if nothing is."""
    if not isinstance(value, Tensor):
        return f"{name} is a {type(value).__name__}"
    if value.requires_grad or value.dtype != torch.float32:
        return f"{name} is {format_tensor(value)}{', with a gradient' if value.requires_grad else ''}"
    rows = value.shape[1:2] if name == "projections" else value.shape[:1]
    if tuple(rows) != (examples,) or (name == "losses" and value.ndim != 1):
        return f"{name} is {format_tensor(value)}"
    return ""


def measure_outputs(subject: Subject) -> Finding:
    outputs = {name: value for name, value in subject.outputs.items() if name not in SCALARS}
    faults = [describe_fault(name, value, len(subject.batch.index)) for name, value in outputs.items()]
    if ("reconstructions" in outputs) != ("targets" in outputs):
        faults.append("reconstructions and targets come together")
    if faults := list(filter(None, faults)):
        return False, "; ".join(faults)
    return True, ", ".join(f"{name} {format_tensor(value)}" for name, value in outputs.items()) or "none"


@torch.no_grad()
def measure_validation(subject: Subject) -> Finding:
    module = subject.copy_module().eval()
    features = module.validation_step(subject.evaluation, 0)["features"]
    measured = f"features {format_tensor(features)}"
    same = are_close(features, module.encoder(subject.view))
    kept = same and features.dtype == torch.float32
    return kept, measured if same else f"{measured}, which are not the encoder's"


OUTPUT_CHECKS = [
    PromiseCheck(
        "loss", measure_loss, "return self.outputs(loss, ...) with a finite scalar that has a gradient"
    ),
    PromiseCheck(
        "features",
        measure_features,
        "give those of the first view by self.encode, (B, dim), or leave them out",
    ),
    PromiseCheck("metrics", measure_metrics, "give self.outputs a dict of scalars, and count as a number"),
    PromiseCheck(
        "outputs", measure_outputs, "pass them to self.outputs, one row an example, projections (V, B, P)"
    ),
    PromiseCheck(
        "validation_step", measure_validation, 'return {"features": self.encode(view).float(), ...}'
    ),
]
