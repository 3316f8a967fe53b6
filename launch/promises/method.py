"""What a method promises beside its step: the views it needs, what follows its encoder, and what decodes."""

from collections import Counter

import torch

from common.text import plural
from launch.preflight import check_encode, check_value_range, check_views
from launch.promises.promise import Finding, PromiseCheck, Subject, format_tensor


def measure_encode(subject: Subject) -> Finding:
    check_encode(subject.module)
    return True, "is the encoder's forward"


def measure_views(subject: Subject) -> Finding:
    check_views(subject.module, subject.data.recipes)
    sizes = Counter("x".join(map(str, view.shape[1:])) for view in subject.batch.views)
    return True, ", ".join(f"{plural(count, 'view')} of {size}" for size, count in sizes.items())


def measure_value_range(subject: Subject) -> Finding:
    if not subject.module.value_range:
        return None, "views of any range"
    low, high = subject.module.value_range
    views = [*subject.batch.views, subject.view]
    for view in views:
        check_value_range(subject.module, view)
    smallest, largest = (f(torch.stack([f(view) for view in views])) for f in (torch.amin, torch.amax))
    return True, f"[{low:g}, {high:g}]: views are in [{smallest:.2f}, {largest:.2f}]"


def measure_monitor(subject: Subject) -> Finding:
    monitor = subject.module.monitor
    name, mode = monitor
    kept = isinstance(name, str) and "/" in name and mode in ("min", "max")
    return kept, repr(tuple(monitor))


@torch.no_grad()
def measure_encoder_loaded(subject: Subject) -> Finding:
    """Copies are the other parts with the encoder's class and weights; they must follow when weights are read."""
    module = subject.copy_module()
    encoder, weights = module.encoder, module.encoder.state_dict()
    copies = {
        name: part
        for name, part in module.named_modules()
        if part is not encoder and type(part) is type(encoder) and has_weights(part, weights)
    }
    if not copies:
        return None, "there is no copy of the encoder"
    for parameter in encoder.parameters():
        parameter.add_(1)
    read = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    module.on_encoder_loaded()
    if not has_weights(encoder, read):
        return False, "the encoder's own weights change"
    stale = [name for name, part in copies.items() if not has_weights(part, read)]
    return not stale, f"{', '.join(stale or copies)} {'keeps other' if stale else 'takes the'} weights"


def has_weights(part: torch.nn.Module, weights: dict[str, torch.Tensor]) -> bool:
    state = part.state_dict()
    return state.keys() == weights.keys() and all(torch.equal(state[name], weights[name]) for name in state)


@torch.no_grad()
def measure_decode(subject: Subject) -> Finding:
    module = subject.copy_module().eval()
    if not hasattr(module, "decode") or not hasattr(module.encoder, "posterior"):
        return None, "the method has none: no traversals of latents"
    pixels = module.decode(module.encoder.posterior(subject.view)[0], subject.evaluation.labels)
    return pixels.shape == subject.view.shape, f"latents -> {format_tensor(pixels)}"


@torch.no_grad()
def measure_reconstruct(subject: Subject) -> Finding:
    module = subject.copy_module().eval()
    if not hasattr(module, "reconstruct"):
        return None, "the method has none: no pictures of reconstructions"
    images = module.reconstruct(subject.view, subject.evaluation.labels)
    return images.shape == subject.view.shape, f"views -> {format_tensor(images)}"


@torch.no_grad()
def measure_hide(subject: Subject) -> Finding:
    module = subject.copy_module().eval()
    if not hasattr(module, "hide"):
        return None, "the method hides nothing"
    images = module.hide(subject.view)
    return images.shape == subject.view.shape, f"views -> {format_tensor(images)}"


@torch.no_grad()
def measure_generate(subject: Subject) -> Finding:
    module = subject.copy_module().eval()
    if not hasattr(module, "generate"):
        return None, "the method draws no images"
    images = module.generate(2, torch.Generator().manual_seed(0))
    kept = images.shape == subject.view[:2].shape and bool(((images >= 0) & (images <= 1)).all())
    return kept, f"2 latents -> {format_tensor(images)}"


METHOD_CHECKS = [
    PromiseCheck("encode", measure_encode, "put what it does into the encoder's forward"),
    PromiseCheck("check_views", measure_views, "return None, or in words what the method needs"),
    PromiseCheck("value_range", measure_value_range, "set it to (low, high), or None"),
    PromiseCheck("monitor", measure_monitor, 'set it to (name, mode), as ("val/loss", "min")'),
    PromiseCheck(
        "on_encoder_loaded",
        measure_encoder_loaded,
        "call copy_weights(copy, self.encoder) there, and no more",
    ),
    PromiseCheck("decode", measure_decode, "return the view's (B, C, H, W) from latents (B, dim) and labels"),
    PromiseCheck(
        "reconstruct", measure_reconstruct, "return the view's (B, C, H, W) from the view and labels"
    ),
    PromiseCheck("hide", measure_hide, "return the view's (B, C, H, W) with 0 in what is hidden"),
    PromiseCheck(
        "generate", measure_generate, "return (count, C, H, W) in [0, 1] from a count and a generator"
    ),
]
