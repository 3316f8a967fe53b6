"""A promise of the contracts, how a class is checked for it, and the lines that say what was measured."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from common.batch import Batch
from common.text import plural

Finding = tuple[bool | None, str]  # kept, broken or not applicable (None), and what was measured


class Promise(NamedTuple):
    """What a check came to.

    Attributes:
        name: of the promise.
        kept: None where the class has no such part.
        measured: in words.
        advice: what to do where it is broken.
    """

    name: str
    kept: bool | None
    measured: str
    advice: str = ""


class PromiseCheck(NamedTuple):
    """How a promise is checked: `measure` runs what it checks, and may raise whatever the class raises."""

    name: str
    measure: Callable[["Subject"], Finding]
    advice: str


@dataclass
class Subject:
    """What is checked.

    Attributes:
        module: the method, set up; checks work on copies.
        data: its `datasets` are filled.
        batch: of training, with augmented views.
        evaluation: the same examples as validation has them.
    """

    module: LightningModule
    data: LightningDataModule
    batch: Batch
    evaluation: Batch

    @property
    def view(self) -> Tensor:
        return self.evaluation.views[0]

    def copy_module(self) -> LightningModule:
        """A copy of the method, in training mode."""
        module = copy.deepcopy(self.module)
        module.trainer = self.module._trainer
        return module.train()

    def copy_encoder(self) -> nn.Module:
        """A copy of the encoder, in eval mode."""
        return copy.deepcopy(self.module.encoder).eval()

    def run_step(self, module: LightningModule | None = None, batch: Batch | None = None) -> dict[str, Any]:
        """A training step, by a fresh copy if None, with the global generator seeded as a training loop does."""
        torch.manual_seed(0)
        return (module or self.copy_module()).training_step(batch or self.batch, 0)

    @cached_property
    def outputs(self) -> dict[str, Any]:
        """Those of a training step."""
        return self.run_step()


def run_checks(checks: list[PromiseCheck], subject: Subject) -> list[Promise]:
    """Check one promise after the other. One whose check raises is broken, and the error is what was measured."""
    return [run_check(check, subject) for check in checks]


def run_check(check: PromiseCheck, subject: Subject) -> Promise:
    try:
        with torch.random.fork_rng(devices=[]):
            kept, measured = check.measure(subject)
    except MisconfigurationException as error:  # it says itself what to do
        return Promise(check.name, False, join_words(str(error)))
    except Exception as error:  # whatever a class does wrong is its line
        measured = f"{type(error).__name__}: {join_words(str(error))}"
        return Promise(check.name, False, measured[:300], check.advice)
    return Promise(check.name, kept, measured, check.advice if kept is False else "")


def join_words(text: str) -> str:
    """Put a text on one line."""
    return " ".join(text.split())


def are_close(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    """Whether two tensors have one shape and differ by little, measured by the largest entry."""
    if a.shape != b.shape:
        return False
    scale = max(1.0, float(b.abs().max())) if b.numel() else 1.0
    return bool((a.float() - b.float()).abs().max() <= tolerance * scale) if b.numel() else True


def format_tensor(tensor: Tensor) -> str:
    """'(8, 256) float32'"""
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def format_promises(promises: list[Promise]) -> str:
    """A line for each promise: mark, name, what was measured, and what to do where it is broken."""
    width = max(len(promise.name) for promise in promises)
    marks = {True: "yes", False: "no", None: "-"}
    lines = []
    for name, kept, measured, advice in promises:
        line = f"  {marks[kept]:<3}  {name:<{width}}  {measured}"
        lines.append(f"{line}: {advice}" if advice else line)
    return "\n".join(lines)


def summarize_broken(promises: list[Promise]) -> str:
    """'2 of 30 promises are broken: dim, labels'"""
    broken = [promise.name for promise in promises if promise.kept is False]
    verb = "is" if len(broken) == 1 else "are"
    return f"{len(broken)} of {plural(len(promises), 'promise')} {verb} broken: {', '.join(broken)}"
