"""The course's character LSTM through cli.py, beside padding every tweet to the longest in the data set.

    python benchmarks/tweets.py                  # about 3 minutes
    python benchmarks/tweets.py --json tweets.json

All sides train configs/char_lstm_tweets.yaml, each in a process of its own, in turns of `--turn` seconds with the whole
machine; a ratio is the median of the rounds' ratios. Without data/tweets, lengths are drawn as those of tweets are.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from benchmarks.turns import print_ratios, rates
from datamodules.texts import TextRows
from datamodules.tweets import Tweets

ROOT = Path(__file__).parents[1]
SIDES = {  # name: (data module, precision, what it is)
    "as given": ("datamodules.tweets.Tweets", "auto", "batches of tweets about equally long, our precision"),
    "padded": ("benchmarks.tweets.Padded", "32-true", "all as long as the longest, Lightning's precision"),
    "padded, ours": ("benchmarks.tweets.Padded", "auto", "all as long as the longest, our precision"),
}


class Padded(Tweets):
    """Training tweets that are all padded to the longest."""

    def setup(self, stage: str) -> None:
        super().setup(stage)
        rows = self.datasets["train"]
        texts = [text.ljust(rows.lengths.max(), b"\0") for text in rows.texts]
        self.datasets["train"] = TextRows(texts, rows.labels.tolist())


def make_data(folder: Path, count: int = 5000) -> None:
    """Random letters, as many as tweets have: what they say does not matter for speed."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        lengths = rng.normal(99, 36, count).clip(5, 180).astype(int)
        lines = [f"{bytes(rng.integers(97, 123, n)).decode()},{n % 2}\n" for n in lengths]
        (folder / f"{split}.csv").write_text("".join(lines))


def command(data: str, precision: str, data_dir: Path, runs: Path) -> list[str]:
    """What a side runs."""
    options = {
        "data": data,
        "data.init_args.data_dir": data_dir,
        "runs_dir": runs,
        "trainer.precision": precision,
        "trainer.limit_val_batches": 0,
        "trainer.callbacks+": "benchmarks.epoch.StampSteps",
        "trainer.callbacks.path": "STAMPS",
        "without": "[Protocol,WandbLogger]",
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "cli.py", "fit", "--config", "configs/char_lstm_tweets.yaml", *words]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", type=Path, default=ROOT / "data")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--turn", type=float, default=8, help="seconds of a turn")
    parser.add_argument("--json", type=Path, help="write the table here too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data_dir = args.data_dir.absolute()
        if not (data_dir / "tweets").is_dir():
            data_dir = Path(folder)
            make_data(data_dir / "tweets")
        commands = {
            side: command(data, precision, data_dir, Path(folder) / "runs")
            for side, (data, precision, _) in SIDES.items()
        }
        speeds = rates(commands, args.turn, args.rounds, ROOT)
        tweets = Tweets(data_dir=str(data_dir))
        tweets.setup("fit")
    report(speeds, tweets.datasets["train"].lengths, args)


def report(speeds: dict[str, list[float]], lengths: np.ndarray, args: argparse.Namespace) -> None:
    about = {"tweets": len(lengths), "mean_length": round(lengths.mean(), 1), "longest": int(lengths.max())}
    about |= {"cores": len(os.sched_getaffinity(0)), "load": round(os.getloadavg()[0], 1)}
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print(f"{args.rounds} turns of {args.turn:g} s each, medians")
    descriptions = {side: what for side, (*_, what) in SIDES.items()}
    ratios = print_ratios(speeds, "as given", descriptions, "iterations/s", digits=1)
    if args.json:
        results = {"iterations_per_s": speeds, "as_given_over": ratios}
        args.json.write_text(json.dumps(about | results, indent=2) + "\n")


if __name__ == "__main__":
    main()
