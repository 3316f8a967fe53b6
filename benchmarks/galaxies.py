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

import os
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
os.environ["TQDM_DISABLE"] = "1"
from benchmarks.memory import STATUS, call_in_fresh_process, measure_peak_mb, read_resident_mb
from benchmarks.program import build_parser, count_cores, read_load, save_json
from benchmarks.timing import take_medians, time_in_turns
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


def decode_one_by_one(paths: list[Path], crop: int, side: int) -> np.ndarray:
    images = np.empty((len(paths), side, side, 3), np.uint8)
    for image, path in zip(images, paths, strict=True):
        with Image.open(path) as file:
            picture = file.convert("RGB")
        left, top = (picture.width - crop) // 2, (picture.height - crop) // 2
        square = picture.crop((left, top, left + crop, top + crop))
        image[:] = square.resize((side, side), Image.Resampling.BILINEAR)
    return images


def measure_decoding(files: dict[str, Path], out: Path, crop: int, side: int) -> tuple[float, float, float]:
    """In a process of its own: MB of its own while it decodes and while it reads, and of pages of files after that."""
    decoding = measure_peak_mb(partial(decode_images, files, out, crop, side))
    loader = BatchLoader(RowsDataset(read_images(out)), 256, seed=0)
    reading = measure_peak_mb(lambda: [None for _ in loader])
    return decoding, reading, read_resident_mb("RssFile")


def report_memory(files: dict[str, Path], out: Path, crop: int, side: int) -> list[dict]:
    """MB by the number of images."""
    rows = []
    for count in (len(files) // 10, len(files)):
        some = dict(list(files.items())[:count])
        decoding, reading, pages = call_in_fresh_process(measure_decoding, some, out, crop, side)
        print(
            f"memory          {count:8,} images, {out.stat().st_size / 2**20:.0f} MB: {decoding:.0f} MB to decode, "
            f"{reading:.0f} MB to read, {pages:.0f} MB of pages"
        )
        rows.append({"images": count, "decoding": decoding, "reading": reading, "pages": pages})
    return rows


def main() -> None:
    parser = build_parser(__doc__)
    parser.add_argument("--folder", type=Path, help="of JPGs; they are repeated")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the tables here too")
    args = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        if args.folder is None:
            draw_jpegs(Path(folder), 100)
        jpegs = sorted((args.folder or Path(folder)).glob("*.jpg"))
        paths = (jpegs * (args.images // len(jpegs) + 1))[: args.images]
        files, out = {f"{k:06}": path for k, path in enumerate(paths)}, Path(folder) / "images.npy"
        if args.rounds:
            results["images_per_s_and_core_ms"] = compare_decoders(
                files, out, args.crop, args.side, args.rounds
            )
        if STATUS.is_file():
            results["memory_mb"] = report_memory(files, out, args.crop, args.side)
    save_json(args.json, results)


def compare_decoders(
    files: dict[str, Path], out: Path, crop: int, side: int, rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """(images/s, ms of all cores an image) of each round: the latter says more on a busy machine."""
    paths = list(files.values())
    works = {
        "PIL one by one": lambda: decode_one_by_one(paths, crop, side),
        "ours": lambda: decode_images(files, out, crop, side),
    }
    times, _ = time_in_turns(works, rounds, warm_up=0)
    costs = {
        name: [(len(paths) / clock, 1000 * cores / len(paths)) for clock, cores in rows]
        for name, rows in times.items()
    }
    print(f"{len(paths)} JPGs, central {crop} -> {side} pixels, {count_cores()} cores, ", end="")
    print(f"load {read_load()}, {rounds} rounds")
    for name, rows in costs.items():
        speed, busy = take_medians(rows)
        print(f"{name:16}{speed:8,.0f} images/s{busy:8.2f} ms of all cores an image")
    for column, unit in enumerate(("images/s", "ms of all cores")):
        pairs = zip(*([row[column] for row in rows] for rows in costs.values()), strict=True)
        ratios = [max(a, b) / min(a, b) for a, b in pairs]
        print(
            f"ratio           {statistics.median(ratios):8.1f} in {unit} ({min(ratios):.1f} - {max(ratios):.1f})"
        )
    theirs, ours = decode_one_by_one(paths[:500], crop, side), np.load(out, mmap_mode="r")[:500]
    difference = np.abs(ours - theirs.astype(np.float32))
    print(
        f"pixels differ by {difference.mean():.2f} of 255 in the mean, 99.9 % by less than "
        f"{np.quantile(difference, 0.999):.0f}, one by {difference.max():.0f} (standard deviation {theirs.std():.1f})"
    )
    return costs


if __name__ == "__main__":
    main()
