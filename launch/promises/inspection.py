"""`cli.py inspect`: which promises a config's classes keep, and its layers, on a batch that needs no data."""

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn

from common.text import plural
from launch.promises.encoder import ENCODER_CHECKS
from launch.promises.method import METHOD_CHECKS
from launch.promises.outputs import OUTPUT_CHECKS
from launch.promises.promise import (
    Promise,
    Subject,
    format_promises,
    join_words,
    run_checks,
    summarize_broken,
)
from launch.promises.step import STEP_CHECKS
from launch.promises.tokens import TOKEN_CHECKS
from model_summary.summary import format_summary, trace_layers

CPU = torch.device("cpu")
EXAMPLES = 8


def count_channels(encoder: nn.Module) -> int:
    """How many channels of an image the encoder reads: its `in_channels`, or those of its first convolution."""
    convolutions = (part for part in encoder.modules() if isinstance(part, nn.Conv2d))
    first = next(convolutions, None)
    return getattr(encoder, "in_channels", 1 if first is None else first.in_channels)


def inspect_module(module: LightningModule, data: LightningDataModule) -> list[Promise]:
    """Print the promises of encoder and method, then the layers. The module has a trainer, which has the data."""
    data.fill_with_noise(count_channels(module.encoder))
    module.setup("inspect")
    rows = np.arange(min(EXAMPLES, len(data.rows_of("train"))))
    batch = data.read_batch("train", rows, CPU, augment=True)
    evaluation = data.read_batch("train", rows, CPU)
    subject = Subject(module, data, batch, evaluation)
    print(f"encoder {type(module.encoder).__name__}, on random examples shaped as those of the config")
    promises = run_checks([*ENCODER_CHECKS, *TOKEN_CHECKS], subject)
    print(format_promises(promises))
    method_promises = run_checks([*METHOD_CHECKS, *OUTPUT_CHECKS, *STEP_CHECKS], subject)
    print(f"\nmethod {type(module).__name__}")
    print(format_promises(method_promises), end="\n\n")
    promises += method_promises
    print_module_layers(module, data)
    if any(promise.kept is False for promise in promises):
        print(f"\n{summarize_broken(promises)}")
    return promises


def print_module_layers(module: LightningModule, data: LightningDataModule) -> None:
    """Print the module layer by layer, of which two examples pass; one line instead where its step raises."""
    batch = data.read_batch("train", np.arange(2), CPU, augment=True)
    view, views = batch.views[0], plural(len(batch.views), "view")
    title = f"{type(module).__name__} on {type(data).__name__}"
    try:
        layers = trace_layers(module, view, lambda: module.training_step(batch, 0))
    except Exception as error:  # the promises say so, too
        print(f"{title}: no layers, the step raises {type(error).__name__}: {join_words(str(error))}")
        return
    print(f"{title}; multiply-adds of one example, {views}, forward with the loss")
    print(format_summary(layers, view))
