"""What words alone tell of a tweet: logistic regression on their counts, by scikit-learn, beside which the LSTM stands.

    python benchmarks/bag_of_words.py            # a few seconds

Words and pairs of words that two training tweets have, weighed by tf-idf; C by accuracy on validation. It reads the
splits that datamodules.tweets reads.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from callbacks.evaluation.by_group import accuracy_by_group
from datamodules.texts import TextRows
from datamodules.tweets import Tweets

ROOT = Path(__file__).parents[1]


def fit(rows: TextRows, c: float) -> Pipeline:
    words = TfidfVectorizer(token_pattern=r"(?u)\S+", ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    return make_pipeline(words, LogisticRegression(C=c, max_iter=1000)).fit(texts(rows), rows.labels.numpy())


def texts(rows: TextRows) -> list[str]:
    return [text.decode() for text in rows.texts]


def right(model: Pipeline, rows: TextRows) -> torch.Tensor:
    """Which texts it labels as they are (N,)"""
    return torch.from_numpy(model.predict(texts(rows))) == rows.labels


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", type=Path, default=ROOT / "data")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    args = parser.parse_args()
    data = Tweets(data_dir=str(args.data_dir))
    data.setup("fit")
    models = {c: fit(data.datasets["train"], c) for c in (0.3, 1, 3, 10, 30)}
    val = {c: right(model, data.datasets["val"]).float().mean().item() for c, model in models.items()}
    c = max(val, key=val.get)
    hits = right(models[c], data.datasets["test"])
    groups = accuracy_by_group(hits, data.groups_of("test") or ["all"] * len(hits))
    print(f"C {c:g}, of {', '.join(f'{c:g} (val {100 * share:.1f})' for c, share in val.items())}")
    print(f"test, top-1 %: {100 * hits.float().mean().item():.1f}")
    for group, (share, count) in groups.items():
        print(f"  {group:<16}{100 * share:>6.1f}  of {count}")
    if args.json:
        numbers = {"c": c, "val": val[c], "test": hits.float().mean().item(), "groups": groups}
        args.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
