"""What an encoder promises: features of a known width, which depend on nothing but the image and the weights."""

import fnmatch

import torch
from torch import nn

from launch.promises.promise import Finding, PromiseCheck, Subject, are_close, format_tensor
from ssl_modules.optim import measure_depths


@torch.no_grad()
def measure_dim(subject: Subject) -> Finding:
    encoder = subject.copy_encoder()
    features = encoder(subject.view)
    kept = type(encoder.dim) is int and features.shape == (len(subject.view), encoder.dim)
    finite = bool(features.isfinite().all())
    measured = f"{encoder.dim!r}: features {format_tensor(features)}{'' if finite else ', not all finite'}"
    return kept and finite, measured


@torch.no_grad()
def measure_eval_mode(subject: Subject) -> Finding:
    encoder = subject.copy_encoder()
    random_state = torch.get_rng_state()
    buffers = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    same = torch.equal(encoder(subject.view), encoder(subject.view))
    draws = not torch.equal(torch.get_rng_state(), random_state)
    changed = [name for name, buffer in encoder.named_buffers() if not torch.equal(buffer, buffers[name])]
    faults = ["features differ at the second time"] if not same else []
    faults += ["the global generator is drawn from"] if draws else []
    faults += [f"buffers change ({', '.join(changed)})"] if changed else []
    return not faults, " and ".join(faults) or "draws nothing, changes no buffer, the same features twice"


@torch.no_grad()
def measure_one_by_one(subject: Subject) -> Finding:
    encoder, view = subject.copy_encoder(), subject.view
    together, alone = encoder(view)[:2], encoder(view[:2])
    gap = float((together - alone).abs().max())
    measured = f"features change by {gap:.1e} where the rest of the batch is left out"
    return are_close(alone, together), measured


@torch.no_grad()
def measure_maps(subject: Subject) -> Finding:
    encoder = subject.copy_encoder()
    if not hasattr(encoder, "maps"):
        return None, "the encoder has none: no CAM, no clusters of maps"
    maps = encoder.maps(subject.view)
    kept = maps.ndim == 4 and len(maps) == len(subject.view) and bool(maps.isfinite().all())
    return kept, format_tensor(maps)


@torch.no_grad()
def measure_pooled(subject: Subject) -> Finding:
    encoder = subject.copy_encoder()
    if not hasattr(encoder, "maps"):
        return None, "there are no maps"
    if not encoder.pooled:
        return None, "false: class activation maps come from gradients"
    means, features = encoder.maps(subject.view).mean((2, 3)), encoder(subject.view)
    if means.shape != features.shape:
        return False, f"true, and the mean of maps is {format_tensor(means)}"
    gap = float((means - features).abs().max())
    return are_close(means, features), f"true: features are the mean of maps up to {gap:.1e}"


@torch.no_grad()
def measure_posterior(subject: Subject) -> Finding:
    encoder = subject.copy_encoder()
    if not hasattr(encoder, "posterior"):
        return None, "the encoder has none: no latents with a prior"
    mean, log_variance = encoder.posterior(subject.view)
    kept = mean.shape == log_variance.shape == (len(subject.view), encoder.dim)
    measured = f"mean {format_tensor(mean)}, log-variance {format_tensor(log_variance)}"
    if not kept:
        return False, measured
    same = are_close(mean, encoder(subject.view))
    return same, f"{measured}; the mean {'is' if same else 'is not'} the features"


@torch.no_grad()
def measure_decoder(subject: Subject) -> Finding:
    encoder = subject.copy_encoder()
    if not hasattr(encoder, "decoder"):
        return None, "the encoder brings none"
    images = encoder.decoder().eval()(encoder(subject.view))
    return images.shape == subject.view.shape, f"features -> {format_tensor(images)}"


@torch.no_grad()
def measure_other_sizes(subject: Subject) -> Finding:
    encoder, view = subject.copy_encoder(), subject.view[:2]
    larger = nn.functional.interpolate(view, scale_factor=2) if view.ndim == 4 else view.repeat(1, 2)
    sizes = " instead of ".join("x".join(map(str, v.shape[2:] or v.shape[1:])) for v in (larger, view))
    try:
        shape = encoder(larger).shape
    except Exception as error:  # not every network can
        return None, f"{sizes} does not work ({type(error).__name__})"
    works = tuple(shape) == (2, encoder.dim)
    return works or None, f"{sizes} {'works' if works else f'gives {tuple(shape)}'}"


def measure_no_weight_decay(subject: Subject) -> Finding:
    encoder = subject.module.encoder
    if not hasattr(encoder, "no_weight_decay"):
        return None, "norms and biases alone"
    names, patterns = [name for name, _ in encoder.named_parameters()], sorted(encoder.no_weight_decay())
    unknown = [pattern for pattern in patterns if not fnmatch.filter(names, pattern)]
    if unknown:
        return False, f"no parameters are called {', '.join(unknown)}"
    return True, ", ".join(patterns) or "nothing beside norms and biases"


def measure_group_matcher(subject: Subject) -> Finding:
    encoder = subject.module.encoder
    if not hasattr(encoder, "group_matcher"):
        return None, "layer_decay takes twelve parameters for a layer"
    return True, f"{max(measure_depths(encoder).values())} layers"


ENCODER_CHECKS = [
    PromiseCheck(
        "dim", measure_dim, "set self.dim to an int, the width of what forward returns, (B, dim), finite"
    ),
    PromiseCheck("eval mode", measure_eval_mode, "let forward ask self.training before it draws or counts"),
    PromiseCheck(
        "one by one", measure_one_by_one, "in eval mode take no mean over the batch: track it in a buffer"
    ),
    PromiseCheck("maps", measure_maps, "return (B, channels, h, w), channels first, before pooling"),
    PromiseCheck(
        "pooled",
        measure_pooled,
        "set pooled to true only where forward is maps(view).mean((2, 3)), else false",
    ),
    PromiseCheck(
        "posterior", measure_posterior, "return mean, log-variance, (B, dim) both, and the mean in forward"
    ),
    PromiseCheck(
        "decoder", measure_decoder, "return a network from features (B, dim) to the view's (B, C, H, W)"
    ),
    PromiseCheck("other sizes", measure_other_sizes, ""),
    PromiseCheck(
        "no_weight_decay", measure_no_weight_decay, "name them as named_parameters() of the encoder does"
    ),
    PromiseCheck(
        "group_matcher", measure_group_matcher, "give each parameter's name a layer, as timm's models do"
    ),
]
