"""What words alone tell of a tweet: logistic regression on their counts, by scikit-learn, beside which the LSTM stands.

    python benchmarks/bag_of_words.py            # a few seconds

Words and pairs of words that two training tweets have, weighed by tf-idf; C by accuracy on validation. It reads the
splits that datamodules.tweets reads.
"""

import sys
from pathlib import Path

import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a clone, installed or not
from benchmarks.program import ROOT, build_parser, save_json
from callbacks.evaluation.by_group import accuracy_by_group
from datamodules.texts import TextRows
from datamodules.tweets import Tweets


def decode_texts(rows: TextRows) -> list[str]:
    return [text.decode() for text in rows.texts]


def fit_regression(rows: TextRows, c: float) -> Pipeline:
    words = TfidfVectorizer(token_pattern=r"(?u)\S+", ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    regression = LogisticRegression(C=c, max_iter=1000)
    return make_pipeline(words, regression).fit(decode_texts(rows), rows.labels.numpy())


def score_texts(model: Pipeline, rows: TextRows) -> torch.Tensor:
    """Whether it labels each text rightly (N,)"""
    return torch.from_numpy(model.predict(decode_texts(rows))) == rows.labels


def main() -> None:
    parser = build_parser(__doc__)
    parser.add_argument("--data_dir", type=Path, default=ROOT / "data")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    args = parser.parse_args()
    data = Tweets(data_dir=str(args.data_dir))
    data.setup("fit")
    models = {c: fit_regression(data.datasets["train"], c) for c in (0.3, 1, 3, 10, 30)}
    val = {c: score_texts(model, data.datasets["val"]).float().mean().item() for c, model in models.items()}
    c = max(val, key=val.get)
    hits = score_texts(models[c], data.datasets["test"])
    groups = accuracy_by_group(hits, data.groups_of("test") or ["all"] * len(hits))
    print(f"C {c:g}, of {', '.join(f'{c:g} (val {100 * share:.1f})' for c, share in val.items())}")
    print(f"test, top-1 %: {100 * hits.float().mean().item():.1f}")
    for group, (share, count) in groups.items():
        print(f"  {group:<16}{100 * share:>6.1f}  of {count}")
    save_json(args.json, {"c": c, "val": val[c], "test": hits.float().mean().item(), "groups": groups})


if __name__ == "__main__":
    main()
