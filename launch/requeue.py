"""Save and stop when Slurm announces that the time of a job is over."""

import signal

from lightning.pytorch.callbacks import Checkpoint

from callbacks.checkpointing.checkpoints import Checkpoints

EVERY = 10  # batches between two questions to the other processes, each of which waits for a GPU


class Requeued(SystemExit):
    """Ends a run that has saved, to go on when its job runs again. Exit status 0."""

    def __str__(self) -> str:
        return "the time of the job was over"


class Requeue(Checkpoint):  # one of those that Lightning calls last: `Checkpoints` comes before
    """After SIGUSR1 on any process all of them save at the same step, within ten batches, and raise `Requeued`.

    The handler only sets a flag. Lightning's own saves where the signal finds it: of several processes each in another
    place, where they wait for each other for ever.
    """

    def __init__(self):
        self.asked = False
        signal.signal(signal.SIGUSR1, self.request_requeue)

    def request_requeue(self, *_) -> None:
        self.asked = True

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        due = batch_idx % (EVERY * trainer.accumulate_grad_batches) == 0
        if due and trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            for checkpoints in filter(lambda callback: isinstance(callback, Checkpoints), trainer.callbacks):
                if checkpoints.saved_step != trainer.global_step:
                    checkpoints.save_last(trainer)
            raise Requeued(0)
