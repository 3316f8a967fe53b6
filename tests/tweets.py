"""Small stand-ins for tweets: words of two moods, different lengths, a source each."""

from pathlib import Path

import numpy as np

WORDS = {
    0: ["late", "lost my bag", "worst", "cancelled", "never again"],
    1: ["thanks!", "great", "love it", "on time"],
}
OTHERS = ["@user", "the flight", "today", "http://t.co/abc", "so", "really,", "we"]


def random_tweets(count: int, seed: int = 0) -> tuple[list[str], list[int], list[str]]:
    """Texts of 3 to 12 words, labels, as many of each, and sources."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 2).tolist()
    texts = [" ".join(rng.choice(WORDS[k] + OTHERS, rng.integers(3, 13))) for k in labels]
    return texts, labels, rng.choice(["airline", "others"], count).tolist()


def write_tweets(folder: Path, train: int = 100, test: int = 32, unlabeled: int = 0) -> None:
    """{train,test}.csv with columns text, label, source, and unlabeled.txt."""
    folder.mkdir(parents=True)
    for seed, (split, count) in enumerate({"train": train, "test": test}.items()):
        rows = zip(*random_tweets(count, seed), strict=True)
        lines = [f'"{text}",{label},{source}\n' for text, label, source in rows]
        (folder / f"{split}.csv").write_text("text,label,source\n" + "".join(lines))
    if unlabeled:
        (folder / "unlabeled.txt").write_text("\n".join(random_tweets(unlabeled, 2)[0]) + "\n")
