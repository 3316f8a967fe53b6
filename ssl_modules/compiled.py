"""torch.compile for training steps; evaluation, callbacks and checkpoints see the networks as they are."""

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn


def compile_requested(module: nn.Module) -> bool:
    """Whether training steps are compiled; where the encoder is frozen it may run only once, and is left as it is."""
    trained = module.get_submodule(module.trained_encoder)
    return module.compile_steps and any(p.requires_grad for p in trained.parameters())


def compile_networks(module: nn.Module, device: torch.device) -> None:
    """Compile in place whatever a training step may call: `module`'s networks, and the parts of its encoders.

    Only in training mode: compiled code does not run the hooks of callbacks, and evaluation would need code of its own,
    also for its last batch. Names in `state_dict` stay, and copies are not compiled.

    Raises:
        MisconfigurationException: a recurrent network, which torch.compile leaves as it is, or no working compiler.
    """
    for name, part in module.named_modules():
        if isinstance(part, nn.RNNBase):
            raise MisconfigurationException(
                f"model.init_args.compile: {name} is recurrent, which torch.compile leaves as it is: leave compile out"
            )
    check_compiler(device)
    # one and the same, unless a teacher is judged
    encoders = {module.encoder, module.get_submodule(module.trained_encoder)}
    # a Sequential of networks, as a teacher's, may be called one by one
    parts = [part for child in module.children() if isinstance(child, nn.Sequential) for part in child]
    for network in (
        *module.children(),
        *parts,
        *(part for encoder in encoders for part in encoder.children()),
    ):
        if any(network.children()):  # a single layer gains nothing
            compile_for_training(network)


def compile_for_training(network: nn.Module) -> None:
    network.compile()
    compiled, plain = network._compiled_call_impl, network._call_impl
    network._compiled_call_impl = lambda *inputs, **named: (compiled if network.training else plain)(
        *inputs, **named
    )


def check_compiler(device: torch.device) -> None:
    """Compile next to nothing, so that a missing compiler is told before training begins."""
    try:
        torch.compile(torch.neg)(torch.ones(2, device=device))
    except RuntimeError as error:
        lines = str(error).splitlines()
        reason = next((line for line in lines if not line.endswith("raised:")), type(error).__name__)
        raise MisconfigurationException(
            f"model.init_args.compile: torch.compile does not work here ({reason}): install a C++ compiler "
            "such as g++, with Python's headers, or leave compile out"
        ) from error
