"""Lightning's Trainer with the verbs inspect and predict."""

from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.trainer.connectors.accelerator_connector import _PRECISION_INPUT

from callbacks.checkpointing.checkpoints import list_kept_checkpoints
from common.checkpoint import read_checkpoint
from common.ranges import NonNegativeFloat, NonNegativeInt, PositiveInt, UnitInterval
from launch.judged_encoder import JudgedEncoder
from launch.predict import write_features
from launch.promises.inspection import inspect_module


class Trainer(pl.Trainer):
    """Lightning's Trainer; `precision: auto` has become a number format before it is built.

    Args:
        limit_train_batches, limit_val_batches, limit_test_batches, limit_predict_batches: a whole number of batches, or
            a share. (Lightning's own annotation makes jsonargparse read 1 as 1.0, which is all of them.)
        check_val_every_n_epoch, accumulate_grad_batches, log_every_n_steps: Lightning's, which would divide by 0.
        gradient_clip_val: Lightning's, which would not clip by a number below 0 and not say so.
    """

    def __init__(
        self,
        *args: Any,
        precision: _PRECISION_INPUT | Literal["auto"] | None = "auto",
        limit_train_batches: NonNegativeInt | UnitInterval | None = None,
        limit_val_batches: NonNegativeInt | UnitInterval | None = None,
        limit_test_batches: NonNegativeInt | UnitInterval | None = None,
        limit_predict_batches: NonNegativeInt | UnitInterval | None = None,
        check_val_every_n_epoch: PositiveInt | None = 1,
        accumulate_grad_batches: PositiveInt = 1,
        log_every_n_steps: PositiveInt | None = None,
        gradient_clip_val: NonNegativeFloat | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            *args,
            precision=precision,
            limit_train_batches=limit_train_batches,
            limit_val_batches=limit_val_batches,
            limit_test_batches=limit_test_batches,
            limit_predict_batches=limit_predict_batches,
            check_val_every_n_epoch=check_val_every_n_epoch,
            accumulate_grad_batches=accumulate_grad_batches,
            log_every_n_steps=log_every_n_steps,
            gradient_clip_val=gradient_clip_val,
            **kwargs,
        )

    def validate(self, *args: Any, ckpt_path: str | Path | None = None, **kwargs: Any) -> list[dict]:
        """A checkpoint, or each `epoch=N.ckpt` of a folder in turn, at the epoch and step where it was taken."""
        self.checkpoints = (
            list_kept_checkpoints(Path(ckpt_path)) if ckpt_path and Path(ckpt_path).is_dir() else []
        )
        results = []
        for path in self.checkpoints or [ckpt_path]:
            self.go_to(path)
            results += super().validate(*args, ckpt_path=path, **kwargs)
        return results

    def test(self, *args: Any, ckpt_path: str | Path | None = None, **kwargs: Any) -> list[dict]:
        """At the epoch and step where the checkpoint was taken, if there is one."""
        self.go_to(ckpt_path)
        return super().test(*args, ckpt_path=ckpt_path, **kwargs)

    def inspect(
        self,
        model: LightningModule,
        datamodule: LightningDataModule,
        ckpt_path: str | Path | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Print which promises of the contracts the classes keep, then the module layer by layer; no data are read.

        Args:
            ckpt_path, weights_only: of no effect, but a run's config.yaml has them.
        """
        model.trainer, self.datamodule = self, datamodule
        self.promises = inspect_module(model, datamodule)

    def predict(
        self,
        model: LightningModule,
        datamodule: LightningDataModule,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
        split: Literal["val", "test", "train", "bank"] = "val",
        images: str | None = None,
        output: str | None = None,
        on_bad_image: Literal["error", "skip"] = "error",
    ) -> None:
        """Write the features of a split, or of a folder of images, to an .npz file, which goes on where it was cut off.

        Args:
            ckpt_path: the checkpoint; the encoder of model.init_args.ckpt, or a pretrained one, if not given.
            weights_only: of no effect, it is read so anyway; but a run's config.yaml has it.
            split: whose examples; `bank` are the labeled training examples.
            images: a folder of JPGs and PNGs, also in folders in it, in place of a split.
            output: the file; CHECKPOINT_SPLIT.npz beside the checkpoint if not given.
            on_bad_image: what to do about images of the folder that cannot be decoded.
        """
        model = model if ckpt_path else JudgedEncoder(model, "predict")
        write_features(self, model, datamodule, ckpt_path, split, images, output, on_bad_image)

    def go_to(self, ckpt_path: str | Path | None) -> None:
        """Count from a checkpoint's epoch and step, which figures and metrics go by; Lightning does so only in fit."""
        if ckpt_path:
            self.fit_loop.load_state_dict(read_checkpoint(Path(ckpt_path))["loops"]["fit_loop"])
