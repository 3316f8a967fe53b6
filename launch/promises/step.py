"""What a step promises: a loss that is a function of batch and weights, and that reaches all that is trained."""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import nn

from launch.precision import fast_precision
from launch.promises.outputs import SCALARS
from launch.promises.promise import Finding, PromiseCheck, Subject


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


def measure_pure(subject: Subject) -> Finding:
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


def measure_labels(subject: Subject) -> Finding:
    labels = subject.batch.labels
    unknown = torch.full_like(labels, torch.nan if labels.is_floating_point() else -1)
    losses = [
        subject.run_step(batch=subject.batch._replace(labels=others))["loss"].detach()
        for others in (labels, labels.roll(1, 0), unknown)
    ]
    if all(torch.equal(loss, losses[0]) for loss in losses):
        return True, "the loss reads none"
    return None, "the loss reads them"


def measure_gradients(subject: Subject) -> Finding:
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


def measure_bf16(subject: Subject) -> Finding:
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
    PromiseCheck(
        "pure", measure_pure, "move state in on_after_backward or optimizer_step, draw from batch.key"
    ),
    PromiseCheck("labels", measure_labels, "read batch.labels, or nothing of them"),
    PromiseCheck("gradients", measure_gradients, "leave them out, or call requires_grad_(False) in __init__"),
    PromiseCheck(
        "bf16", measure_bf16, "compute the loss in float32: call .float() before norms, exp and log"
    ),
]
