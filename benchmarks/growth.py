"""How time and memory grow: with the number of images, and with the batch size.

    python benchmarks/growth.py                         # about 5 minutes

An epoch of the data module alone (rows from the memory map, two SimCLR views), and an epoch of training a small SimCLR
with Lightning's Trainer, over 1, 2 and 4 times as many images and in three sizes of batches, in turns; medians. Linear
is a time an image that stays the same. Memory is that of a fresh process in one epoch of each: what it has itself at
most, and beside it the pages of the file, which the system takes back when it needs them.
"""

import logging
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Trainer

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from benchmarks.augmentation import simclr_recipe
from benchmarks.memory import STATUS, call_in_fresh_process, measure_peak_mb, read_resident_mb
from benchmarks.program import build_parser, count_cores, read_load, save_json
from benchmarks.timing import time_call
from datamodules.arrays import Arrays
from launch.precision import fast_precision
from ssl_modules.networks.resnet import ResNet
from ssl_modules.simclr import SimCLR

TIMES = (1, 2, 4)
SIDES = ("data", "training")


def write_growing_images(folder: Path, images: int) -> None:
    """Random 32x32 colors, written a piece at a time."""
    for times in TIMES:
        (folder / f"x{times}").mkdir()
        shape = (times * images, 32, 32, 3)
        file = np.lib.format.open_memmap(folder / f"x{times}" / "train_images.npy", "w+", np.uint8, shape)
        for k in range(times):
            file[k * images : (k + 1) * images] = np.random.default_rng(k).integers(
                0, 256, (images, *shape[1:])
            )
        file.flush()


def make_data_module(folder: Path, times: int, batch: int) -> Arrays:
    views = 2 * [simclr_recipe(32)]
    return Arrays(f"x{times}", data_dir=str(folder), views=views, batch_size=batch, val_size=0)


def make_data_epoch(folder: Path, times: int, batch: int) -> Callable[[], object]:
    data = make_data_module(folder, times, batch)
    data.setup("fit")
    loader = data.make_loader("train", training=True)
    return lambda: [data.prepare_batch(rows, torch.device("cpu"), augment=True)[3] for rows in loader]


def make_training_epoch(folder: Path, times: int, batch: int) -> Callable[[], object]:
    """Without logging, checkpoints and callbacks."""
    torch.manual_seed(0)
    encoder = ResNet("wide3", widths=[16, 32], blocks=[1, 1])
    module = SimCLR(encoder=encoder, optimizer=partial(torch.optim.SGD, lr=0.01), hidden_dim=64, out_dim=32)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        precision=fast_precision(),
        enable_checkpointing=False,
        use_distributed_sampler=False,
        **quiet,
    )
    return lambda: trainer.fit(module, datamodule=make_data_module(folder, times, batch))


EPOCHS = {"data": make_data_epoch, "training": make_training_epoch}


def measure_epochs(folder: Path, cases: list[tuple[int, int]]) -> list[dict[str, float]]:
    """In a process of its own, for each (times, batch), after an epoch of the first that loads what both need."""
    silence_lightning()
    for side in SIDES:
        EPOCHS[side](folder, *cases[0])()
    rows = []
    for case in cases:
        row = {f"{side}_mb": measure_peak_mb(EPOCHS[side](folder, *case)) for side in SIDES}
        rows.append(row | {"pages_mb": read_resident_mb("RssFile")})
    return rows


def silence_lightning() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


def time_epochs(folder: Path, cases: list[tuple[int, int]], images: int, rounds: int) -> list[dict]:
    """Medians of microseconds an image, for each (times, batch)."""
    costs: dict[tuple, dict[str, list[float]]] = {case: {side: [] for side in SIDES} for case in cases}
    for _ in range(rounds + 1):
        for times, batch in cases:
            count = times * images // batch * batch  # the last, smaller batch is left out
            for side in SIDES:
                seconds, *_ = time_call(EPOCHS[side](folder, times, batch))
                costs[times, batch][side].append(1e6 * seconds / count)
    return [
        {"images": times * images, "batch": batch}
        | {side: statistics.median(costs[times, batch][side][1:]) for side in SIDES}  # first: warm-up
        for times, batch in cases
    ]


def main() -> None:
    parser = build_parser(__doc__)
    parser.add_argument("--images", type=int, default=8192, help="of the smallest data set")
    parser.add_argument("--batch", type=int, default=64, help="the smallest")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the table here too")
    args = parser.parse_args()
    silence_lightning()
    sizes = [(times, 4 * args.batch) for times in TIMES]
    batches = [(1, args.batch), (1, 16 * args.batch)]
    memory = []
    with tempfile.TemporaryDirectory() as folder:
        write_growing_images(Path(folder), args.images)
        if STATUS.is_file():
            memory = call_in_fresh_process(measure_epochs, Path(folder), sizes)
        rows = time_epochs(Path(folder), sizes + batches, args.images, args.rounds)
    for row, peaks in zip(rows, memory, strict=False):
        row |= peaks
    print(f"{count_cores()} cores, load {read_load()}, {fast_precision()}, ", end="")
    print(f"medians of {args.rounds} epochs; MB at most\n")
    print(f"{'':>16}{'us an image':^20}{'by the first':^20}{'own MB while':^20}{'pages of':>10}")
    print(f"{'images':>8}{'batch':>8}" + 3 * "".join(f"{side:>10}" for side in SIDES) + f"{'files, MB':>11}")
    for row in rows:
        print(f"{row['images']:>8}{row['batch']:>8}", end="")
        print("".join(f"{row[side]:>10.0f}" for side in SIDES), end="")
        print("".join(f"{row[side] / rows[0][side]:>10.2f}" for side in SIDES), end="")
        print("".join(f"{row[f'{side}_mb']:>10.0f}" for side in SIDES) if "pages_mb" in row else "", end="")
        print(f"{row['pages_mb']:>11.0f}" if "pages_mb" in row else "", flush=True)
    save_json(args.json, {"precision": fast_precision(), "rows": rows})


if __name__ == "__main__":
    main()
