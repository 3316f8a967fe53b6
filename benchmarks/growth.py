"""How time and memory grow: with the number of images, and with the batch size.

    python benchmarks/growth.py                         # about 5 minutes

An epoch of the data module alone (rows from the memory map, two SimCLR views), and an epoch of training a small SimCLR
with Lightning's Trainer, over 1, 2 and 4 times as many images and in three sizes of batches, in turns; medians. Linear
is a time an image that stays the same. Memory is that of a fresh process in one epoch of each: what it has itself at
most, and beside it the pages of the file, which the system takes back when it needs them.
"""

import argparse
import json
import logging
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Trainer

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from benchmarks.augmentation import recipe
from benchmarks.galaxies import most_while, resident
from datamodules.arrays import Arrays
from launch.trainer import fast_precision
from ssl_modules.networks.resnet import ResNet
from ssl_modules.simclr import SimCLR

TIMES = (1, 2, 4)
SIDES = ("data", "training")


def make_data(folder: Path, images: int) -> None:
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


def data_module(folder: Path, times: int, batch: int) -> Arrays:
    return Arrays(f"x{times}", data_dir=str(folder), views=2 * [recipe(32)], batch_size=batch, val_size=0)


def data_epoch(folder: Path, times: int, batch: int) -> Callable[[], object]:
    data = data_module(folder, times, batch)
    data.setup("fit")
    loader = data.make_loader("train", training=True)
    return lambda: [data.prepare_batch(rows, torch.device("cpu"), augment=True)[3] for rows in loader]


def training_epoch(folder: Path, times: int, batch: int) -> Callable[[], object]:
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
    return lambda: trainer.fit(module, datamodule=data_module(folder, times, batch))


EPOCHS = {"data": data_epoch, "training": training_epoch}


def seconds(epoch: Callable[[], object]) -> float:
    start = time.perf_counter()
    epoch()
    return time.perf_counter() - start


def needed(folder: Path, cases: list[tuple[int, int]]) -> list[dict[str, float]]:
    """In a process of its own, for each (times, batch), after an epoch of the first that loads what both need."""
    quiet_lightning()
    for side in SIDES:
        EPOCHS[side](folder, *cases[0])()
    found = []
    for case in cases:
        row = {f"{side}_mb": most_while(EPOCHS[side](folder, *case)) for side in SIDES}
        found.append(row | {"pages_mb": resident("RssFile")})
    return found


def quiet_lightning() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


def compare(folder: Path, cases: list[tuple[int, int]], images: int, rounds: int) -> list[dict]:
    """Medians of microseconds an image, for each (times, batch)."""
    found: dict[tuple, dict[str, list[float]]] = {case: {side: [] for side in SIDES} for case in cases}
    for _ in range(rounds + 1):
        for times, batch in cases:
            for side in SIDES:
                seen = times * images // batch * batch  # the last, smaller batch is left out
                took = seconds(EPOCHS[side](folder, times, batch))
                found[times, batch][side].append(1e6 * took / seen)
    return [
        {"images": times * images, "batch": batch}
        | {side: statistics.median(found[times, batch][side][1:]) for side in SIDES}  # first: warm-up
        for times, batch in cases
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=8192, help="of the smallest data set")
    parser.add_argument("--batch", type=int, default=64, help="the smallest")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the table here too")
    args = parser.parse_args()
    quiet_lightning()
    sizes = [(times, 4 * args.batch) for times in TIMES]
    batches = [(1, args.batch), (1, 16 * args.batch)]
    memory = []
    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder), args.images)
        if Path("/proc/self/status").is_file():
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
                memory = fresh.submit(needed, Path(folder), sizes).result()
        rows = compare(Path(folder), sizes + batches, args.images, args.rounds)
    for row, found in zip(rows, memory, strict=False):
        row |= found
    print(
        f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}, {fast_precision()}, ", end=""
    )
    print(f"medians of {args.rounds} epochs; MB at most\n")
    print(f"{'':>16}{'us an image':^20}{'by the first':^20}{'own MB while':^20}{'pages of':>10}")
    print(f"{'images':>8}{'batch':>8}" + 3 * "".join(f"{side:>10}" for side in SIDES) + f"{'files, MB':>11}")
    for row in rows:
        print(f"{row['images']:>8}{row['batch']:>8}", end="")
        print("".join(f"{row[side]:>10.0f}" for side in SIDES), end="")
        print("".join(f"{row[side] / rows[0][side]:>10.2f}" for side in SIDES), end="")
        print("".join(f"{row[f'{side}_mb']:>10.0f}" for side in SIDES) if "pages_mb" in row else "", end="")
        print(f"{row['pages_mb']:>11.0f}" if "pages_mb" in row else "", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"precision": fast_precision(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
