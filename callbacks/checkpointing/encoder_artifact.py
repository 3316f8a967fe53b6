"""The callback that saves the final encoder, also as an artifact of the W&B run."""

from pathlib import Path

import wandb
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from safetensors.torch import save_file


class EncoderArtifact(Callback):
    """Saves the encoder's final weights as `encoder.safetensors` in the run folder and as an artifact of W&B's.

    Cost: a copy of the encoder on disk and what W&B takes to upload it.
    """

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        path = Path(trainer.default_root_dir) / "encoder.safetensors"
        save_file({name: value.contiguous() for name, value in module.encoder.state_dict().items()}, path)
        encoder = module.encoder
        metadata = {"encoder": type(encoder).__name__, "dim": encoder.dim, "step": trainer.global_step}
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                artifact = wandb.Artifact(f"encoder-{logger.version}", type="model", metadata=metadata)
                artifact.add_file(str(path))
                logger.experiment.log_artifact(artifact)
