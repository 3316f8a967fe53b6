"""Loading of an encoder from the checkpoint of any method."""

from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from common.checkpoint import encoder_weights, read_checkpoint
from common.text import plural


def state_dict_mismatch(expected: dict[str, Tensor], weights: dict[str, Tensor]) -> str:
    """Describe how two sets of weights differ, with up to three keys of each kind; empty where they fit."""
    mismatches = {
        "missing": expected.keys() - weights.keys(),
        "unknown": weights.keys() - expected.keys(),
        "of another shape": [
            k for k in expected.keys() & weights.keys() if expected[k].shape != weights[k].shape
        ],
    }
    return "; ".join(
        f"{len(keys)} {kind} ({', '.join(sorted(keys)[:3])})" for kind, keys in mismatches.items() if keys
    )


def check_finite_weights(module: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Raise where weights are NaN or infinite which are not so in the module, naming up to three of them.

    Args:
        module: has not read the weights.
        source: where they come from.
    """
    expected = module.state_dict()
    bad = [
        name
        for name, weight in weights.items()
        if not weight.isfinite().all() and expected[name].isfinite().all()
    ]
    if bad:
        raise MisconfigurationException(
            f"{source} has NaN or infinity in {plural(len(bad), 'weight')} ({', '.join(bad[:3])}): its training "
            "diverged, give an earlier checkpoint"
        )


def check_weights(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Raises where a checkpoint's weights are not those of this module or not finite, naming the keys."""
    if mismatch := state_dict_mismatch(module.state_dict(), weights):
        raise MisconfigurationException(
            f"the checkpoint does not fit this {type(module).__name__}: {mismatch}. "
            "Use the config.yaml of the run that it comes from"
        )
    check_finite_weights(module, weights, "the checkpoint")


def format_options(options: dict[str, Any]) -> str:
    """Format options as 'mean [0.5] and std [0.25]'."""
    return " and ".join(f"{name} {value}" for name, value in options.items())


def load_encoder(
    encoder: nn.Module, path: str, data_state: dict[str, Any], option: str = "model.init_args.ckpt"
) -> None:
    """Load a checkpoint's encoder, in place.

    Args:
        encoder: an encoder like the one in the checkpoint.
        path: path of a checkpoint of any method.
        data_state: `state_dict()` of this run's data module; the encoder must have been trained with the same.
        option: the option that gave the path, for error messages.

    Raises:
        MisconfigurationException: the file does not exist or is no checkpoint, its encoder has other weights or
            some that are not finite, or it was trained on data prepared in another way.
    """
    checkpoint = read_checkpoint(Path(path), "cpu", option=option)
    weights = encoder_weights(checkpoint)
    if mismatch := state_dict_mismatch(encoder.state_dict(), weights):
        raise MisconfigurationException(
            f"{path}: its encoder does not fit this one: {mismatch}. Use the encoder block of its run's config.yaml"
        )
    check_finite_weights(encoder, weights, path)
    for state in checkpoint.values():  # the data module's is under its class name, which may be another one
        if isinstance(state, dict) and state.keys() == data_state.keys() and state != data_state:
            raise MisconfigurationException(
                f"{path}: its encoder was trained with {format_options(state)}, this run has "
                f"{format_options(data_state)}: set these options of data.init_args to the same values"
            )
    encoder.load_state_dict(weights)
