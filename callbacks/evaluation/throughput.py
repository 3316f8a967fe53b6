"""How fast is it, and how much of the time does the step wait for its batch?"""

from time import perf_counter

from lightning.pytorch import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Logs `train/examples_per_s` of all processes, and `train/data_wait`: the share of time between a step's end and
    the next one's start, which reads, moves and augments the batch. Validation does not count. Cost: two clock readings
    a step.
    """

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.restart_clock()  # a run resumed in mid-epoch sees no start of its epoch

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.restart_clock()

    def restart_clock(self) -> None:
        self.examples, self.waited = 0, 0.0
        self.began = self.step_ended = perf_counter()

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        self.waited += perf_counter() - self.step_ended

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.examples += len(batch.index)
        self.step_ended = perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        seconds = self.step_ended - self.began
        module.log("train/examples_per_s", self.examples * trainer.world_size / seconds)
        module.log("train/data_wait", self.waited / seconds)
