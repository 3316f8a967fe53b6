"""Wires a method, a data set and callbacks, which a config names, into a Trainer and a run folder."""

import logging
import sys
import warnings
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import torch
import yaml
from lightning.fabric.utilities.rank_zero import _get_rank
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.trainer.connectors.accelerator_connector import _PRECISION_INPUT
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from anatomy.table import table, trace
from callbacks.checkpoints import kept
from callbacks.run_folder import RunFolder
from launch.examples import examples
from launch.folders import claim, unfinished
from launch.parser import Help, Parser, nearest
from launch.predict import predict
from reports.report import write as write_report

ROOT = Path(__file__).parent.parent
VERBS = ("fit", "validate", "test", "predict", "inspect")
FOLDERLESS = ("predict", "inspect")  # verbs that make no run folder
DEFAULTS = {"default_config_files": [str(ROOT / "configs" / "defaults.yaml")], "allow_abbrev": False}


def fast_precision() -> str:
    """bf16-mixed where the hardware computes in it, else 32-true."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() else "32-true"


class Trainer(pl.Trainer):
    """Lightning's Trainer; `precision: auto` has become a number format before it is built.

    Args:
        limit_train_batches, limit_val_batches, limit_test_batches, limit_predict_batches: a whole number of batches, or
            a share. (Lightning's own annotation makes jsonargparse read 1 as 1.0, which is all of them.)
    """

    def __init__(
        self,
        *args: Any,
        precision: _PRECISION_INPUT | Literal["auto"] | None = "auto",
        limit_train_batches: int | float | None = None,
        limit_val_batches: int | float | None = None,
        limit_test_batches: int | float | None = None,
        limit_predict_batches: int | float | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            *args,
            precision=precision,
            limit_train_batches=limit_train_batches,
            limit_val_batches=limit_val_batches,
            limit_test_batches=limit_test_batches,
            limit_predict_batches=limit_predict_batches,
            **kwargs,
        )

    def validate(self, *args: Any, ckpt_path: str | Path | None = None, **kwargs: Any) -> list[dict]:
        """A checkpoint, or each `epoch=N.ckpt` of a folder in turn, at the epoch and step where it was taken."""
        paths = kept(Path(ckpt_path)) if ckpt_path and Path(ckpt_path).is_dir() else [ckpt_path]
        results = []
        for path in paths:
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
        """Print the module layer by layer, for the data's views, of which it sees two examples.

        Args:
            ckpt_path, weights_only: of no effect, but a run's config.yaml has them.
        """
        datamodule.prepare_data()
        datamodule.setup("fit")
        model.trainer, self.datamodule = self, datamodule
        model.setup("fit")
        stored = datamodule.datasets["train"].__getitems__(np.arange(2))
        batch = datamodule.prepare((*stored, 0), torch.device("cpu"), augment=True)
        view, views = batch[0][0], len(batch[0])
        what = f"{type(model).__name__} on {type(datamodule).__name__}"
        print(f"{what}; multiply-adds of one example, {views} view{'s' * (views > 1)}, forward with the loss")
        print(table(trace(model, view, lambda: model.training_step(batch, 0)), view))

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
            ckpt_path: the checkpoint.
            weights_only: of no effect, it is read so anyway; but a run's config.yaml has it.
            split: whose examples; `bank` are the labelled training examples.
            images: a folder of JPGs and PNGs, also in folders in it, in place of a split.
            output: the file; CHECKPOINT_SPLIT.npz beside the checkpoint if not given.
            on_bad_image: what to do about images of the folder that cannot be decoded.
        """
        predict(self, model, datamodule, ckpt_path, split, images, output, on_bad_image)

    def go_to(self, ckpt_path: str | Path | None) -> None:
        """Count from a checkpoint's epoch and step, which figures and metrics go by; Lightning does so only in fit."""
        if ckpt_path:
            checkpoint = torch.load(ckpt_path, map_location="meta", weights_only=True, mmap=True)
            self.fit_loop.load_state_dict(checkpoint["loops"]["fit_loop"])


class CLI(LightningCLI):
    """LightningCLI with run folders: config -> Trainer, module, data -> fit, test once, report."""

    def __init__(self):
        super().__init__(
            LightningModule,
            LightningDataModule,
            trainer_class=Trainer,
            parser_class=Parser,
            save_config_callback=None,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            parser_kwargs={"allow_abbrev": False, "formatter_class": Help}
            | {verb: DEFAULTS | {"epilog": examples(verb)} for verb in VERBS},
        )

    def add_arguments_to_parser(self, parser: Parser) -> None:
        parser.add_argument(
            "--experiment", type=str | None, help="name of the runs (default: the config's file name)"
        )
        parser.add_argument("--runs_dir", type=str, default="runs", help="where run folders are made")
        parser.add_argument(
            "--without", type=list[str], default=[], help="callbacks or loggers to leave out, by class name"
        )
        parser.add_argument("--test_after_fit", type=bool, default=True, help="test once, at the last epoch")
        parser.link_arguments("seed_everything", "data.init_args.seed")
        parser.link_arguments("data.num_classes", "model.init_args.num_classes", apply_on="instantiate")

    def _parse_ckpt_path(self) -> None:
        """Nothing: a checkpoint's hyper-parameters must not override what the user asked for."""

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        if config.trainer.precision == "auto":
            config.trainer.precision = fast_precision()
        stem = Path(str(config.config[0])).stem if config.config else "unnamed"
        config.experiment = config.experiment or stem
        trainer = config.trainer
        loggers = trainer.logger if isinstance(trainer.logger, list) else []
        check_names(config.without, [*(trainer.callbacks or []), *loggers])
        no_bar = [] if trainer.enable_progress_bar in (None, True) else ["TQDMProgressBar"]
        trainer.callbacks = chosen(trainer.callbacks or [], config.without + no_bar)
        if loggers:
            trainer.logger = loggers = chosen(loggers, config.without)
        config.without = []  # done: the stored config has what is left
        if self.subcommand in FOLDERLESS:
            bar = [item for item in trainer.callbacks if class_name(item) == "TQDMProgressBar"]
            trainer.callbacks, trainer.logger = bar, False
            trainer.devices, trainer.num_nodes, trainer.strategy = 1, 1, "auto"
            if self.subcommand == "inspect":
                trainer.accelerator = "cpu"
            return
        text = self._parser(self.subcommand).dump(config, skip_none=False)
        folder = self.run_folder(config)
        trainer.default_root_dir = str(folder)
        for logger in loggers:
            logger.init_args.save_dir = str(folder)
            if "name" in logger.init_args and logger.init_args.name is None:
                logger.init_args.name = f"{folder.parent.name}/{folder.name}"
        self.run = RunFolder(folder, text, yaml.safe_load(text))

    def run_folder(self, config: Any) -> Path:
        """A new version, or with `ckpt_path: last` the newest unfinished one. Only the first rank makes folders."""
        experiment = Path(config.runs_dir) / config.experiment
        if config.ckpt_path == "last":
            folder, config.ckpt_path = unfinished(experiment)
            return folder
        if config.ckpt_path and Path(config.ckpt_path).is_dir() and self.subcommand == "validate":
            if not kept(Path(config.ckpt_path)):
                raise MisconfigurationException(
                    f"--ckpt_path {config.ckpt_path}: no epoch=N.ckpt in it; train with keep_every_n_epochs of "
                    "callbacks.checkpoints.Checkpoints"
                )
        elif config.ckpt_path and not Path(config.ckpt_path).is_file():
            raise MisconfigurationException(f"--ckpt_path {config.ckpt_path}: no such file")
        return claim(experiment) if not _get_rank() else experiment / "of_rank_0"

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        trainer = super().instantiate_trainer(**kwargs)
        if self.subcommand not in FOLDERLESS:
            trainer.callbacks.insert(0, self.run)
        return trainer

    def after_fit(self) -> None:
        data = self.datamodule
        if self.config.fit.test_after_fit:
            if "test" in data.datasets:
                self.trainer.test(self.model, datamodule=data, verbose=False)
            else:
                rank_zero_info(f"{data.folder} has no test split: the final test is skipped")
        self.finish()

    def finish(self) -> None:
        self.run.write(self.trainer, "finished")

    after_validate = after_test = finish

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        verbs = LightningCLI.subcommands()
        verbs["inspect"] = verbs["predict"] = {"model", "datamodule"}
        return {verb: verbs[verb] for verb in VERBS}


def class_name(item: Any) -> str:
    return item.class_path.rsplit(".", 1)[-1]


def check_names(without: list[str], items: list) -> None:
    known = [class_name(item) for item in items]
    for name in without:
        if name not in known:
            raise MisconfigurationException(
                f"without: no callback or logger is called {name!r}{nearest(name, known)}"
            )


def figures_name(item: Any) -> str | None:
    """The option `name` of a callback; what a logger calls a run is no name of figures."""
    is_logger = "save_dir" in (item.get("init_args") or {})
    return None if is_logger else (item.get("init_args") or {}).get("name")


def chosen(items: list, without: list[str]) -> list:
    """Callbacks or loggers, less those switched off by name. Of a class given twice the later one counts, but an eye
    that gets another `name` for its figures stands beside the first."""
    latest = {(item.class_path, figures_name(item)): item for item in items}
    return [item for item in latest.values() if class_name(item) not in without]


def run(args: list[str]) -> int:
    """Exit status; what a user can put right is said in one line."""
    quiet_lightning()
    sys.argv[1:] = args  # LightningCLI reads them there, and so do the processes that Lightning starts
    cli = CLI.__new__(CLI)
    try:
        cli.__init__()
    except MisconfigurationException as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        if (run := getattr(cli, "run", None)) and not _get_rank():
            leave(run.folder)
    return 0


def leave(folder: Path) -> None:
    """The last look at a run folder, however the run ended: write the report, or remove a folder that stayed empty."""
    if not (folder / "provenance.json").is_file():
        folder.rmdir()
    elif (folder / "metrics.csv").is_file():
        print(f"run folder: {folder}\nreport: {write_report(folder)}")


def quiet_lightning() -> None:
    """Leave out advertisements, warnings of what is meant, and one that Lightning 2.6 gets from torch 2.14."""
    rank_zero = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    rank_zero.addFilter(lambda record: "Tip:" not in record.msg)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec")
    warnings.filterwarnings("ignore", message="Found .* in eval mode at the start of training")
    warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")  # no val split
