"""The command line of training: it builds what a config names, runs it and keeps the run folder."""

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import yaml
from filelock import FileLock
from lightning.fabric.utilities.rank_zero import _get_rank
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks.checkpointing.checkpoints import list_kept_checkpoints
from callbacks.evaluation.epoch_means import EpochMeans
from common.checkpoint import read_checkpoint
from common.renamed import rename_argument
from launch.allowed_classes import check_class_rights, restrict_classes
from launch.averaging import order_averaging
from launch.callback_options import check_callback_options
from launch.examples import format_examples
from launch.exit_messages import close_run_folder, explain_exit
from launch.folders import find_latest_unfinished, find_wandb_id, lock_run, make_new_version
from launch.judged_encoder import JudgedEncoder
from launch.monitors import Monitors
from launch.parser import Help, Parser, join_lines
from launch.precision import fast_precision
from launch.preflight import Preflight
from launch.requeue import Requeued
from launch.resume import Resume
from launch.run_folder import RunFolder
from launch.slurm import check_started_by_srun, find_requeued_run, install_requeue_handler, requeue_job
from launch.trainer import Trainer
from launch.untrained import give_untrained_encoder
from launch.without import current_names, drop_by_name, short_class_name

ROOT = Path(__file__).parent.parent
VERBS = ("fit", "validate", "test", "predict", "inspect")
FOLDERLESS = ("predict", "inspect")  # verbs that make no run folder
DEFAULTS = {"default_config_files": [str(ROOT / "configs" / "defaults.yaml")], "allow_abbrev": False}


class CLI(LightningCLI):
    """LightningCLI with run folders: config -> Trainer, module, data -> fit, test once, report.

    `parse_and_run` does the work, not the constructor: after a failure, `run_verb` still has this object to read.
    """

    lock: FileLock | None = None  # on the run folder of a fit
    run: RunFolder | None = None
    exit_status = 0

    def __init__(self):
        """Do nothing: LightningCLI's constructor would parse and run."""

    def parse_and_run(self) -> None:
        """Parse the command line, build what it names and run the verb."""
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
            | {verb: DEFAULTS | {"epilog": format_examples(verb)} for verb in VERBS},
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
        parser.add_argument(
            "--allow_any_class",
            type=bool,
            default=False,
            help="let a config name classes of any library; only on the command line",
        )
        parser.link_arguments("seed_everything", "data.init_args.seed")
        parser.link_arguments("data.num_classes", "model.init_args.num_classes", apply_on="instantiate")

    def _parse_ckpt_path(self) -> None:
        """Do nothing: a checkpoint's hyper-parameters must not override what the user asked for."""

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        check_class_rights(config)
        self.resolve_auto_options(config)
        self.drop_unwanted(config)
        check_callback_options(config.trainer.callbacks)
        if self.subcommand in FOLDERLESS:
            self.use_one_process(config.trainer)
        else:
            check_started_by_srun()
            self.open_run_folder(config)

    def resolve_auto_options(self, config: Any) -> None:
        """Replace `precision: auto` by this machine's, and a missing experiment name by the config file's."""
        if config.trainer.precision == "auto":
            config.trainer.precision = fast_precision()
        stem = Path(str(config.config[0])).stem if config.config else "unnamed"
        config.experiment = config.experiment or stem

    def drop_unwanted(self, config: Any) -> None:
        """Drop callbacks and loggers that `without` names, and all but the last of those given twice."""
        trainer = config.trainer
        loggers = trainer.logger if isinstance(trainer.logger, list) else []
        without = current_names(config.without, [*(trainer.callbacks or []), *loggers])
        no_bar = [] if trainer.enable_progress_bar in (None, True) else ["TQDMProgressBar"]
        trainer.callbacks = drop_by_name(trainer.callbacks or [], without + no_bar)
        if loggers:
            trainer.logger = drop_by_name(loggers, without)
        config.without = []  # the stored config lists only what stayed

    def use_one_process(self, trainer: Any) -> None:
        """Set the trainer to one process, without loggers and with no callback but the progress bar."""
        bar = [item for item in trainer.callbacks if short_class_name(item) == "TQDMProgressBar"]
        trainer.callbacks, trainer.logger = bar, False
        trainer.devices, trainer.num_nodes, trainer.strategy = 1, 1, "auto"
        if self.subcommand == "inspect":
            trainer.accelerator = "cpu"

    def open_run_folder(self, config: Any) -> None:
        """Choose and lock the run folder, and point Trainer and loggers to it."""
        trainer, stored = config.trainer, config.clone()
        if stored.ckpt_path == "last":
            stored.ckpt_path = None  # the stored config repeats the run from its start
        config_yaml = self._parser(self.subcommand).dump(stored, skip_none=False)
        folder = self.choose_run_folder(config)
        is_new = folder.is_dir() and not any(folder.iterdir())
        if self.subcommand == "fit" and not _get_rank():
            self.lock = lock_run(folder)
        trainer.default_root_dir = str(folder)
        for logger in trainer.logger if isinstance(trainer.logger, list) else []:
            logger.init_args.save_dir = str(folder)
            if "id" in logger.init_args and self.subcommand == "fit":
                logger.init_args.id = find_wandb_id(config.ckpt_path, folder)
            if "name" in logger.init_args and logger.init_args.name is None:
                logger.init_args.name = f"{folder.parent.name}/{folder.name}"
        self.run = RunFolder(folder, config_yaml, yaml.safe_load(config_yaml), is_new)

    def choose_run_folder(self, config: Any) -> Path:
        """Return the folder to write to, and set `ckpt_path` to the checkpoint to resume from.

        It is the folder that this job began before Slurm requeued it, with `ckpt_path: last` that of the newest
        unfinished run, and otherwise a new version. Only the first rank makes folders.
        """
        experiment = Path(config.runs_dir) / config.experiment
        if self.subcommand == "fit" and (requeued := find_requeued_run(experiment)):
            folder, checkpoint = requeued
            if checkpoint or config.ckpt_path != "last":
                config.ckpt_path = checkpoint or config.ckpt_path
                return folder
        if config.ckpt_path == "last":
            if self.subcommand != "fit":
                raise MisconfigurationException(
                    f"only fit takes --ckpt_path last: give {self.subcommand} RUN/checkpoints/last.ckpt"
                )
            folder, config.ckpt_path = find_latest_unfinished(experiment, config.seed_everything)
            return folder
        if config.ckpt_path and Path(config.ckpt_path).is_dir() and self.subcommand == "validate":
            if not list_kept_checkpoints(Path(config.ckpt_path)):
                raise MisconfigurationException(
                    f"--ckpt_path {config.ckpt_path}: no epoch=N.ckpt in it; train with keep_every_n_epochs of "
                    "callbacks.checkpointing.checkpoints.Checkpoints"
                )
        elif config.ckpt_path:
            read_checkpoint(Path(config.ckpt_path))
        if _get_rank():
            return experiment / "of_rank_0"  # other ranks write nothing, so the name does not matter
        return make_new_version(experiment)

    def instantiate_classes(self) -> None:
        super().instantiate_classes()
        if self.subcommand not in FOLDERLESS:
            give_untrained_encoder(self.trainer.callbacks, self.model.encoder, self.run.hparams)
        if self.subcommand in ("validate", "test") and not self.config[self.subcommand].ckpt_path:
            self.model = JudgedEncoder(self.model, self.subcommand)

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (ValueError, RuntimeError) as error:  # Lightning refuses options that contradict each other
            raise MisconfigurationException(join_lines(str(error))) from error
        if self.subcommand not in FOLDERLESS:
            trainer.callbacks[:0] = [self.run, Preflight(), Monitors(), EpochMeans()]
        if self.subcommand == "fit":
            trainer.callbacks.append(Resume(self.run.hparams))
            install_requeue_handler(trainer)
            trainer.callbacks = order_averaging(trainer.callbacks)
        return trainer

    def after_fit(self) -> None:
        data = self.datamodule
        if self.config.fit.test_after_fit:
            if "test" in data.datasets:
                self.trainer.test(self.model, datamodule=data, verbose=False)
            else:
                rank_zero_info(f"{data.folder} has no test split: the final test is skipped")
        self.mark_finished()

    def mark_finished(self) -> None:
        self.run.write_provenance(self.trainer, "finished")

    after_validate = after_test = mark_finished

    def after_inspect(self) -> None:
        self.exit_status = int(any(promise.kept is False for promise in self.trainer.promises))

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        verbs = LightningCLI.subcommands()
        verbs["inspect"] = verbs["predict"] = {"model", "datamodule"}
        return {verb: verbs[verb] for verb in VERBS}


def run_verb(args: list[str]) -> int:
    """Run the command line of one verb and return its exit status; a user's mistake is explained in one line."""
    quiet_lightning()
    args = [rename_argument(arg) for arg in args]
    sys.argv[1:] = args  # LightningCLI and the processes that Lightning starts read them there
    restrict_classes(ROOT, args)
    cli = CLI()
    try:
        cli.parse_and_run()
    except BaseException as error:
        explanation = explain_exit(cli, error)
        if explanation is None:
            raise
        line, status = explanation
        print(f"error: {line}", file=sys.stderr)
        return status
    finally:
        if cli.lock:
            cli.lock.release()
        if cli.run and not _get_rank():
            close_run_folder(cli.run)
            if isinstance(cli.run.exception, Requeued):
                requeue_job()
    return cli.exit_status


def is_wanted(record: logging.LogRecord) -> bool:
    """No advertisement, and no note of a loader that `inspect` never reads."""
    return not any(text in record.msg for text in ("Tip:", "Loading `train_dataloader`"))


def quiet_lightning() -> None:
    """Silence Lightning's advertisements, and its warnings of what is intended here."""
    rank_zero = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    rank_zero.addFilter(is_wanted)
    # Lightning 2.6 calls what torch 2.14 deprecates
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec")
    # a frozen encoder
    warnings.filterwarnings("ignore", message="Found .* in eval mode at the start of training")
    # launch.slurm asks for srun where a job needs it
    warnings.filterwarnings("ignore", message="The `srun` command is available")
    # data without a validation split
    warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")
