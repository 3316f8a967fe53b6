"""Accidents, as callbacks."""

import os
import signal

from lightning.pytorch import Callback


class KillAt(Callback):
    """`kill -9` in the middle of a step."""

    def __init__(self, step: int):
        self.step = step

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


class Interrupt(KillAt):
    """Ctrl-C."""

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        if trainer.global_step == self.step:
            raise KeyboardInterrupt


class NotANumber(KillAt):
    """Weights, and with them the loss, become NaN."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            for parameter in module.parameters():
                parameter.data.fill_(float("nan"))

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        """Nothing."""
