"""How fast is it, and how much of the time does the step wait for its batch?"""

from time import perf_counter

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Logs `train/examples_per_s` of all processes, and `train/data_wait`: the share of that time in which a batch is
    read, moved and augmented.

    The time is that of training alone: what callbacks do before and after a step, such as saving a checkpoint, does not
    count, nor does validation in the midst of an epoch, with its figures. On a GPU, which goes on with a step while
    callbacks run after it, what they do then does count. Cost: four clock readings a step.
    """

    def __init__(self):
        self.pause, self.resume = PauseClock(self), ResumeClock(self)
        self.restart_clock()

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        if stage == "fit" and self.pause not in trainer.callbacks:
            trainer.callbacks[:] = [self.pause, *trainer.callbacks, self.resume]

    def restart_clock(self) -> None:
        self.examples, self.waited, self.stepped = 0, 0.0, 0.0
        self.resumed = perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self.examples:  # none where a run is resumed at the end of an epoch
            seconds = self.waited + self.stepped
            module.log("train/examples_per_s", self.examples * trainer.world_size / seconds)
            module.log("train/data_wait", self.waited / seconds)


class PauseClock(Callback):
    """The first callback, before which the time of Throughput ends."""

    def __init__(self, throughput: Throughput):
        self.throughput = throughput

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        self.throughput.waited += perf_counter() - self.throughput.resumed

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.throughput.stepped += perf_counter() - self.throughput.resumed
        self.throughput.examples += len(batch.index)
        self.throughput.resumed = perf_counter()  # on a GPU, callbacks run beside the step

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)  # a step that is still running is training
        self.throughput.stepped += perf_counter() - self.throughput.resumed


class ResumeClock(Callback):
    """The last callback, after which the time of Throughput goes on."""

    def __init__(self, throughput: Throughput):
        self.throughput = throughput

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.throughput.restart_clock()  # a run resumed in mid-epoch sees no start of its epoch

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.throughput.restart_clock()

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        self.throughput.resumed = perf_counter()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if module.device.type == "cpu":
            self.throughput.resumed = perf_counter()

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.throughput.resumed = perf_counter()
