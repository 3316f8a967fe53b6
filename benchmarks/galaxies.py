"""A folder of JPGs -> one array: images a second, PIL one by one against ours, interleaved; and how much memory.

    python benchmarks/galaxies.py --folder data/galaxyzoo/raw424

PIL decodes whole images, crops the center and resizes it with antialiasing, into an array in memory. Ours
(datamodules/storage/image_files.py) shrinks while it decodes, on all cores, into a file. This changes pixels: libjpeg
averages blocks where PIL weighs neighbors by a triangle, so ours are a little sharper. On the 100 real JPGs of 424x424
the mean difference is 0.8 of 255 and 99.9 % are below 5 (standard deviation of a pixel 30).
Without --folder the JPGs are drawn: 424x424, a bright blob and noise.

Memory is that of a fresh process that decodes all images, then reads them in random order as training does, for a tenth
of the images and for all: what it has itself at most, and the pages of the file beside it, which the system takes back
when it needs them. --rounds 0 measures memory alone; --images 61578 is the challenge.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
os.environ["TQDM_DISABLE"] = "1"
from datamodules.loading.loader import BatchLoader, RowsDataset
from datamodules.storage.image_files import decode_images
from datamodules.storage.layout import read_images


def draw_jpegs(folder: Path, count: int) -> None:
    """Of the size that the challenge's have, about 14 kB."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-212:212, -212:212]
    for k in range(count):
        angle, width, axis = rng.uniform((0, 10, 0.3), (np.pi, 40, 1))
        u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        light = 200 * np.exp(-np.hypot(u, v / axis) / width)[..., None] * rng.uniform(0.6, 1, 3)
        noisy = light + rng.normal(12, 7, (424, 424, 3))
        Image.fromarray(np.uint8(np.clip(noisy, 0, 255))).save(folder / f"{k}.jpg", quality=80)


def one_by_one(paths: list[Path], crop: int, side: int) -> np.ndarray:
    images = np.empty((len(paths), side, side, 3), np.uint8)
    for image, path in zip(images, paths, strict=True):
        with Image.open(path) as file:
            whole = file.convert("RGB")
        left, top = (whole.width - crop) // 2, (whole.height - crop) // 2
        square = whole.crop((left, top, left + crop, top + crop))
        image[:] = square.resize((side, side), Image.Resampling.BILINEAR)
    return images


def cost(images: int, work: Callable) -> tuple[float, float]:
    """Images a second, and milliseconds of all cores an image: the latter says more on a busy machine."""
    start, busy = time.perf_counter(), time.process_time()
    work()
    return images / (time.perf_counter() - start), 1000 * (time.process_time() - busy) / images


def resident(kind: str) -> float:
    """MB of this process: RssAnon is its own, RssFile are pages of files."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{kind}:")[1].split()[0]) / 1024


def most_while(work: Callable) -> float:
    """MB of its own that this process has at most meanwhile."""
    most, done = [resident("RssAnon")], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            most.append(resident("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return max(most)


def needed(files: dict[str, Path], out: Path, crop: int, side: int) -> tuple[float, float, float]:
    """In a process of its own: MB of its own while it decodes and while it reads, and of pages of files after that."""
    decoding = most_while(partial(decode_images, files, out, crop, side))
    loader = BatchLoader(RowsDataset(read_images(out)), 256, seed=0)
    reading = most_while(lambda: [None for _ in loader])
    return decoding, reading, resident("RssFile")


def say_memory(files: dict[str, Path], out: Path, crop: int, side: int) -> list[dict]:
    """MB by the number of images."""
    found = []
    for count in (len(files) // 10, len(files)):
        some = dict(list(files.items())[:count])
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
            decoding, reading, pages = fresh.submit(needed, some, out, crop, side).result()
        print(
            f"memory          {count:8,} images, {out.stat().st_size / 2**20:.0f} MB: {decoding:.0f} MB to decode, "
            f"{reading:.0f} MB to read, {pages:.0f} MB of pages"
        )
        found.append({"images": count, "decoding": decoding, "reading": reading, "pages": pages})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="of JPGs; they are repeated")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the tables here too")
    args = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        if args.folder is None:
            draw_jpegs(Path(folder), 100)
        jpegs = sorted((args.folder or Path(folder)).glob("*.jpg"))
        paths = (jpegs * (args.images // len(jpegs) + 1))[: args.images]
        files, out = {f"{k:06}": path for k, path in enumerate(paths)}, Path(folder) / "images.npy"
        if args.rounds:
            found["images_per_s_and_core_ms"] = compare(files, out, args.crop, args.side, args.rounds)
        if Path("/proc/self/status").is_file():
            found["memory_mb"] = say_memory(files, out, args.crop, args.side)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


def compare(files: dict[str, Path], out: Path, crop: int, side: int, rounds: int) -> dict[str, list]:
    """(images/s, ms of all cores an image) of each round."""
    paths = list(files.values())
    contestants = {
        "PIL one by one": lambda: one_by_one(paths, crop, side),
        "ours": lambda: decode_images(files, out, crop, side),
    }
    costs = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, work in contestants.items():
            costs[name].append(cost(len(paths), work))
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    print(
        f"{len(paths)} JPGs, central {crop} -> {side} pixels, {cores} cores, load {load:.1f}, {rounds} rounds"
    )
    for name, found in costs.items():
        speed, busy = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{name:16}{speed:8,.0f} images/s{busy:8.2f} ms of all cores an image")
    for what, better in (("images/s", 0), ("ms of all cores", 1)):
        pairs = zip(*([row[better] for row in found] for found in costs.values()), strict=True)
        ratios = [max(a, b) / min(a, b) for a, b in pairs]
        print(
            f"ratio           {statistics.median(ratios):8.1f} in {what} ({min(ratios):.1f} - {max(ratios):.1f})"
        )
    theirs, ours = one_by_one(paths[:500], crop, side), np.load(out, mmap_mode="r")[:500]
    difference = np.abs(ours - theirs.astype(np.float32))
    print(
        f"pixels differ by {difference.mean():.2f} of 255 in the mean, 99.9 % by less than "
        f"{np.quantile(difference, 0.999):.0f}, one by {difference.max():.0f} (standard deviation {theirs.std():.1f})"
    )
    return costs


if __name__ == "__main__":
    main()
