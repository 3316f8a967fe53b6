"""How long SimCLR on CIFAR-10 takes to a given kNN accuracy on validation images, beside lightly's own example.

    python benchmarks/quality.py                     # at most an hour a side

configs/simclr_cifar10.yaml through cli.py, then the SimCLR example of lightly's documentation with the same encoder,
images and batch, in its default precision and in Lightning's bf16, one after the other with the whole machine. After
each epoch the same vote of the 20 nearest training images (weights exp(cosine / 0.1)) judges both; that is not counted,
all else from the first step on is. A side ends at its highest target, after its epochs, or when the minutes are over.
"""

import argparse
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from time import monotonic

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from benchmarks.program import (
    ROOT,
    build_fit_command,
    build_parser,
    count_cores,
    read_load,
    require_lightly,
    save_json,
)
from callbacks.measures.knn import score_by_neighbors
from datamodules.cifar10 import CIFAR10
from launch.precision import fast_precision
from ssl_modules.supervision import encode_split

CONFIG = ROOT / "configs/simclr_cifar10.yaml"
PEERS = {"lightly": "32-true", "lightly bf16": "bf16-mixed"}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}  # lightly's transform normalizes so


class Watch(Callback):
    """Writes seconds of training and kNN accuracy down after each epoch, and stops where enough is known.

    Args:
        path: of the file, a line an epoch.
        data_dir: holds cifar10.
        target: accuracy from which on to stop.
        minutes: after which to stop.
        mean, std: what the encoder's views are normalized with; CIFAR-10's if None.
    """

    def __init__(
        self,
        path: str,
        data_dir: str,
        target: float,
        minutes: float,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ):
        self.path, self.target, self.minutes, self.judging = path, target, minutes, 0.0
        self.data = CIFAR10(data_dir=data_dir, mean=mean, std=std, batch_size=256)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.began = monotonic()

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        before = monotonic()
        seconds = before - self.began - self.judging
        accuracy = self.measure_accuracy(module)
        with open(self.path, "a") as file:
            file.write(f"{seconds:.1f} {accuracy:.4f}\n")
        self.judging += monotonic() - before
        trainer.should_stop |= accuracy >= self.target or seconds > 60 * self.minutes

    def measure_accuracy(self, module: LightningModule) -> float:
        if not self.data.datasets:
            self.data.setup("fit")
        module.encoder.eval()
        with torch.autocast(module.device.type, torch.bfloat16):
            queries, bank = (
                encode_split(module.encoder, self.data, s, module.device) for s in ("val", "train")
            )
        module.encoder.train()
        labels, bank_labels = (self.data.datasets[s].labels.to(module.device) for s in ("val", "train"))
        return float((score_by_neighbors(queries, bank, bank_labels, 10).argmax(1) == labels).float().mean())


def watch_lightly(side: str, path: str, data_dir: str, target: str, minutes: str, epochs: str) -> None:
    from benchmarks.lightly_simclr import train_lightly

    config = yaml.safe_load(CONFIG.read_text())
    encoder = config["model"]["init_args"]["encoder"]
    module, name = encoder["class_path"].rsplit(".", 1)
    watch = Watch(path, data_dir, float(target), float(minutes), **IMAGENET)
    watch.data.setup("fit")
    rows = watch.data.datasets["train"]
    torch.manual_seed(0)
    train_lightly(
        getattr(import_module(module), name)(**encoder.get("init_args", {})),
        rows.images[rows.rows],
        config["data"]["init_args"]["batch_size"],
        PEERS[side],
        watch,
        int(epochs),
    )


def build_side_command(side: str, path: Path, args: argparse.Namespace) -> list[str]:
    data_dir = str(args.data_dir.absolute())
    if side in PEERS:
        numbers = [min(args.targets), args.minutes, args.peer_epochs]
        return [sys.executable, __file__, side, str(path), data_dir, *map(str, numbers)]
    options = {
        "runs_dir": path.parent / "runs",
        "data.init_args.data_dir": data_dir,
        "trainer.callbacks+": "benchmarks.quality.Watch",
        "trainer.callbacks.path": path,
        "trainer.callbacks.data_dir": data_dir,
        "trainer.callbacks.target": max(args.targets),
        "trainer.callbacks.minutes": args.minutes,
        "without": "[KNN,Protocol,WandbLogger]",
        "test_after_fit": "false",
    }
    if args.epochs:
        options["trainer.max_epochs"] = args.epochs
    return build_fit_command(CONFIG, options)


def minutes_to_target(target: float, epochs: list[tuple[float, float]]) -> float | None:
    """Of the first epoch that ends at the target or above."""
    return next((seconds / 60 for seconds, accuracy in epochs if accuracy >= target), None)


def main() -> None:
    parser = build_parser(__doc__)
    parser.add_argument("--data_dir", type=Path, default=ROOT / "data")
    parser.add_argument("--targets", type=float, nargs="+", default=[0.6, 0.7])
    parser.add_argument(
        "--sides", nargs="+", default=["cli.py", *PEERS], help="of cli.py, lightly, lightly bf16"
    )
    parser.add_argument("--epochs", type=int, help="of cli.py; the config's if not given")
    parser.add_argument(
        "--peer_epochs", type=int, default=200, help="of lightly, which stops at the lowest target"
    )
    parser.add_argument("--minutes", type=float, default=60, help="a side at most")
    parser.add_argument("--json", type=Path, help="write the table here too")
    args = parser.parse_args()
    if PEERS.keys() & {*args.sides}:
        require_lightly()
    curves: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for i, side in enumerate(args.sides):
            path = Path(folder) / f"{i}.txt"
            subprocess.run(build_side_command(side, path, args), cwd=ROOT, check=True, stdout=sys.stderr)
            lines = [map(float, line.split()) for line in path.read_text().splitlines()]
            curves[side] = [(seconds, accuracy) for seconds, accuracy in lines]
    cores = count_cores()
    print(f"{cores} cores, load {read_load()}, {fast_precision()}, kNN on validation images of CIFAR-10")
    print(f"{'':<16}" + "".join(f"{f'min to {t:.0%}':>14}" for t in args.targets) + "   last epoch")
    for side, epochs in curves.items():
        minutes = (minutes_to_target(target, epochs) for target in args.targets)
        cells = "".join(f"{'-' if m is None else f'{m:.1f}':>14}" for m in minutes)
        seconds, accuracy = epochs[-1]
        print(f"{side:<16}{cells}   {accuracy:.1%} after {len(epochs)} epochs, {seconds / 60:.1f} min")
    save_json(args.json, {"cores": cores, "seconds_and_accuracy": curves})


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in PEERS:  # a program that `main` has started
        watch_lightly(*sys.argv[1:])
    else:
        main()
