"""What a step promises: a loss that is a function of batch and weights, and outputs that callbacks read."""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from launch.precision import fast_precision
from launch.promises.encoder import are_close
from launch.promises.promise import Check, Finding, Subject, format_tensor

SCALARS = ("loss", "metrics", "count")


def check_loss(subject: Subject) -> Finding:
    loss = subject.outputs["loss"]
    kept = loss.ndim == 0 and loss.requires_grad and bool(loss.isfinite().all())
    measured = format_tensor(loss) if loss.ndim else f"{loss.item():.5g}"
    return kept, f"{measured}, {'with' if loss.requires_grad else 'without'} a gradient"


def check_features(subject: Subject) -> Finding:
    if "features" not in subject.outputs:
        return None, "left out in training: probes read those of validation and bank"
    features, expected = subject.outputs["features"], (len(subject.batch.index), subject.module.encoder.dim)
    kept = features.shape == expected and bool(features.isfinite().all())
    return kept, format_tensor(features)


def check_metrics(subject: Subject) -> Finding:
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


def check_outputs(subject: Subject) -> Finding:
    outputs = {name: value for name, value in subject.outputs.items() if name not in SCALARS}
    faults = [describe_fault(name, value, len(subject.batch.index)) for name, value in outputs.items()]
    if ("reconstructions" in outputs) != ("targets" in outputs):
        faults.append("reconstructions and targets come together")
    if faults := list(filter(None, faults)):
        return False, "; ".join(faults)
    return True, ", ".join(f"{name} {format_tensor(value)}" for name, value in outputs.items()) or "none"


def copy_state(module: LightningModule) -> dict[str, Any]:
    """Parameters, buffers and plain numbers of a method, but for the statistics of batch norms."""
    statistics = {
        f"{prefix}.{name}".lstrip(".")
        for prefix, layer in module.named_modules()
        if isinstance(layer, nn.modules.batchnorm._NormBase)
        for name, _ in layer.named_buffers(recurse=False)
    }
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    state = {name: tensor.detach().clone() for name, tensor in tensors.items() if name not in statistics}
    return state | {name: value for name, value in vars(module).items() if isinstance(value, int | float)}


def check_pure(subject: Subject) -> Finding:
    module = subject.copy_module()
    before = copy_state(module)
    first, second = (subject.run_step(module)["loss"].detach() for _ in range(2))
    after = copy_state(module)
    changed = [name for name in after if name not in before or not is_equal(before[name], after[name])]
    faults = [f"it changes {', '.join(changed[:3])}"] if changed else []
    faults += [] if torch.equal(first, second) else [f"the loss is {first:.6g}, then {second:.6g}"]
    return not faults, "; ".join(faults) or "the same loss twice, and no state changes but batch norm's"


def is_equal(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if torch.is_tensor(a) and torch.is_tensor(b) else a == b


def check_labels(subject: Subject) -> Finding:
    labels = subject.batch.labels
    unknown = torch.full_like(labels, torch.nan if labels.is_floating_point() else -1)
    losses = [
        subject.run_step(batch=subject.batch._replace(labels=others))["loss"].detach()
        for others in (labels, labels.roll(1, 0), unknown)
    ]
    if all(torch.equal(loss, losses[0]) for loss in losses):
        return True, "the loss reads none"
    return None, "the loss reads them"


def check_gradients(subject: Subject) -> Finding:
    module = subject.copy_module()
    subject.run_step(module)["loss"].backward()
    trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
    unreached = [name for name, p in trainable.items() if p.grad is None]
    if not unreached:
        return True, f"the loss reaches all {len(trainable)} trainable parameters"
    more = f" and {len(unreached) - 3} more" if len(unreached) > 3 else ""
    return (
        False,
        f"the loss does not reach {', '.join(unreached[:3])}{more}, and several processes wait for them",
    )


@torch.no_grad()
def check_validation(subject: Subject) -> Finding:
    module = subject.copy_module().eval()
    features = module.validation_step(subject.evaluation, 0)["features"]
    measured = f"features {format_tensor(features)}"
    same = are_close(features, module.encoder(subject.view))
    kept = same and features.dtype == torch.float32
    return kept, measured if same else f"{measured}, which are not the encoder's"


def check_bf16(subject: Subject) -> Finding:
    if fast_precision() == "32-true":
        return None, "this hardware does not compute in bf16"
    module = subject.copy_module()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = subject.run_step(module)
    exact = subject.outputs["loss"]
    if not exact.isfinite().all():
        return None, "the loss is not finite in float32 either"
    outputs["loss"].backward()
    tensors = {name: value for name, value in outputs.items() if torch.is_tensor(value)}
    bad = [n for n, value in tensors.items() if n not in SCALARS and value.dtype != torch.float32]
    bad += [name for name, value in tensors.items() if not value.isfinite().all() and name == "loss"]
    bad += [n for n, p in module.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    if bad:
        return False, f"neither float32 nor finite are {', '.join(bad[:3])}"
    return True, f"loss {outputs['loss'].item():.4g}, in float32 {exact.item():.4g}"


STEP_CHECKS = [
    Check("loss", check_loss, "return self.outputs(loss, ...) with a finite scalar that has a gradient"),
    Check(
        "features", check_features, "give those of the first view by self.encode, (B, dim), or leave them out"
    ),
    Check("metrics", check_metrics, "give self.outputs a dict of scalars, and count as a number"),
    Check("outputs", check_outputs, "pass them to self.outputs, one row an example, projections (V, B, P)"),
    Check("pure", check_pure, "move state in on_after_backward or optimizer_step, draw from batch.key"),
    Check("labels", check_labels, "read batch.labels, or nothing of them"),
    Check("gradients", check_gradients, "leave them out, or call requires_grad_(False) in __init__"),
    Check("validation_step", check_validation, 'return {"features": self.encode(view).float(), ...}'),
    Check("bf16", check_bf16, "compute the loss in float32: call .float() before norms, exp and log"),
]
