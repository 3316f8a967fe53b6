"""The course's character LSTM through cli.py, beside padding every tweet to the longest in the data set.

    python benchmarks/tweets.py                  # about 3 minutes
    python benchmarks/tweets.py --json tweets.json

All sides train configs/char_lstm_tweets.yaml, each in a process of its own, in turns of `--turn` seconds with the whole
machine; a ratio is the median of the rounds' ratios. Without data/tweets, lengths are drawn as those of tweets are.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from benchmarks.program import (
    ENDLESS,
    ROOT,
    build_fit_command,
    build_parser,
    count_cores,
    print_facts,
    read_load,
    save_json,
)
from benchmarks.turns import measure_speeds, print_ratios
from datamodules.texts import TextRows
from datamodules.tweets import Tweets

SIDES = {  # name: (data module, precision, what it is)
    "as given": ("datamodules.tweets.Tweets", "auto", "batches of tweets about equally long, our precision"),
    "padded": (
        "benchmarks.tweets.PaddedTweets",
        "32-true",
        "all as long as the longest, Lightning's precision",
    ),
    "padded, ours": ("benchmarks.tweets.PaddedTweets", "auto", "all as long as the longest, our precision"),
}


class PaddedTweets(Tweets):
    """Training tweets that are all padded to the longest."""

    def setup(self, stage: str) -> None:
        super().setup(stage)
        rows = self.datasets["train"]
        texts = [text.ljust(rows.lengths.max(), b"\0") for text in rows.texts]
        self.datasets["train"] = TextRows(texts, rows.labels.tolist())


def write_tweets(folder: Path, count: int = 5000) -> None:
    """Random letters, as many as tweets have: what they say does not matter for speed."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        lengths = rng.normal(99, 36, count).clip(5, 180).astype(int)
        lines = [f"{bytes(rng.integers(97, 123, n)).decode()},{n % 2}\n" for n in lengths]
        (folder / f"{split}.csv").write_text("".join(lines))


def build_lstm_command(data: str, precision: str, data_dir: Path, runs: Path) -> list[str]:
    options = {
        "data": data,
        "data.init_args.data_dir": data_dir,
        "runs_dir": runs,
        "trainer.precision": precision,
        **ENDLESS,
        "trainer.max_epochs": -1,  # as in the config, which counts steps
    }
    return build_fit_command("configs/char_lstm_tweets.yaml", options)


def main() -> None:
    parser = build_parser(__doc__)
    parser.add_argument("--data_dir", type=Path, default=ROOT / "data")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--turn", type=float, default=8, help="seconds of a turn")
    parser.add_argument("--json", type=Path, help="write the table here too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data_dir = args.data_dir.absolute()
        if not (data_dir / "tweets").is_dir():
            data_dir = Path(folder)
            write_tweets(data_dir / "tweets")
        commands = {
            side: build_lstm_command(data, precision, data_dir, Path(folder) / "runs")
            for side, (data, precision, _) in SIDES.items()
        }
        speeds = measure_speeds(commands, args.turn, args.rounds)
        tweets = Tweets(data_dir=str(data_dir))
        tweets.setup("fit")
    report_speeds(speeds, tweets.datasets["train"].lengths, args)


def report_speeds(speeds: dict[str, list[float]], lengths: np.ndarray, args: argparse.Namespace) -> None:
    facts = {"tweets": len(lengths), "mean_length": round(lengths.mean(), 1), "longest": int(lengths.max())}
    facts |= {"cores": count_cores(), "load": read_load()}
    print_facts(facts)
    print(f"{args.rounds} turns of {args.turn:g} s each, medians")
    descriptions = {side: description for side, (*_, description) in SIDES.items()}
    ratios = print_ratios(speeds, "as given", descriptions, "iterations/s", digits=1)
    save_json(args.json, facts | {"iterations_per_s": speeds, "as_given_over": ratios})


if __name__ == "__main__":
    main()
