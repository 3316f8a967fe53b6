"""A small run folder: a checkpoint of a method on `tiny` or on tweets, and the config.yaml that goes with it."""

from pathlib import Path

import torch
import yaml
from torch import nn

from datamodules.arrays import Arrays
from datamodules.tweets import Tweets
from launch.trainer import Trainer
from ssl_modules.base import SSLModule
from ssl_modules.next_character import NextCharacter
from ssl_modules.rotnet import RotNet

MODEL = {False: RotNet, True: NextCharacter}


def build(encoder: dict) -> nn.Module:
    module, name = encoder["class_path"].rsplit(".", 1)
    torch.manual_seed(0)
    return getattr(__import__(module, fromlist=[name]), name)(**encoder["init_args"])


def data_of(data_dir: Path, text: bool = False, **options):
    options = {"data_dir": str(data_dir), "batch_size": 10} | options
    return Tweets(**options) if text else Arrays("tiny", **options)


def model_of(encoder: dict, text: bool = False) -> SSLModule:
    return MODEL[text](encoder=build(encoder), optimizer=torch.optim.AdamW)


def trainer_of(folder: Path, **options) -> Trainer:
    quiet = {
        name: False
        for name in ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    }
    quiet |= {"accelerator": "cpu", "precision": "32-true", "use_distributed_sampler": False}
    return Trainer(default_root_dir=folder, **(quiet | options))


def write_run(folder: Path, encoder: dict, data_dir: Path, text: bool = False) -> Path:
    """`folder/config.yaml` and, after two steps, the checkpoint whose path is returned."""
    model, data = model_of(encoder, text), data_of(data_dir, text)
    limits = {"limit_train_batches": 2, "limit_val_batches": 0, "num_sanity_val_steps": 0, "max_epochs": 1}
    trainer = trainer_of(folder, **limits)
    trainer.fit(model, data)
    path = folder / "checkpoints" / "last.ckpt"
    trainer.save_checkpoint(path)
    options = {"data_dir": str(data_dir), "batch_size": 10} | ({} if text else {"name": "tiny"})
    optimizer = {"class_path": "torch.optim.AdamW"}
    config = {
        "experiment": folder.parent.name,
        "model": {
            "class_path": f"{type(model).__module__}.{type(model).__name__}",
            "init_args": {"encoder": encoder, "optimizer": optimizer},
        },
        "data": {"class_path": f"{type(data).__module__}.{type(data).__name__}", "init_args": options},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "provenance.json").write_text(
        '{"image_size": [16, 16, 3], "commit": "3f9c2ab", "state": "finished"}'
    )
    (folder / "metrics.csv").write_text("epoch,step,test/probe_top1,test/knn20_top1\n0,1,,0.1\n1,2,0.5,\n")
    return path
