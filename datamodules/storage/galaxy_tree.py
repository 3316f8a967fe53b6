"""The decision tree of Galaxy Zoo 2: its questions, and the classes that vote fractions make of a galaxy.

Willett et al. 2013, table 2, https://arxiv.org/abs/1308.3496; fractions as in Kaggle's Galaxy Zoo challenge,
https://www.kaggle.com/c/galaxy-zoo-the-galaxy-challenge: column Class7.2 is the share of the votes for the second
answer of question 7, times the share that was asked it. So the answers of a question sum to the answers that lead to
it; those of questions 1 and 6 sum to 1.
"""

from functools import cache

import numpy as np

# question -> answers -> the next question, None at the end of a path
TREE: dict[int, dict[str, int | None]] = {
    1: {"smooth": 7, "disk": 2, "star or artifact": None},
    2: {"edge-on": 9, "not edge-on": 3},
    3: {"bar": 4, "no bar": 4},
    4: {"spiral": 10, "no spiral": 5},
    5: {"no bulge": 6, "small bulge": 6, "obvious bulge": 6, "dominant bulge": 6},
    6: {"odd": 8, "not odd": None},
    7: {"round": 6, "in between": 6, "cigar-shaped": 6},
    8: dict.fromkeys(("ring", "lens or arc", "disturbed", "irregular", "other", "merger", "dust lane")),
    9: {"rounded bulge": 6, "boxy bulge": 6, "no bulge": 6},
    10: {"tight arms": 11, "medium arms": 11, "loose arms": 11},
    11: {"1 arm": 5, "2 arms": 5, "3 arms": 5, "4 arms": 5, "more arms": 5, "arms not countable": 5},
}
COLUMNS = [f"Class{question}.{k}" for question in TREE for k in range(1, len(TREE[question]) + 1)]
PLACES = {q: [i for i, name in enumerate(COLUMNS) if name.startswith(f"Class{q}.")] for q in TREE}


def list_paths(question: int | None = 1) -> list[tuple[str, ...]]:
    """List all ways from a question to an end of the tree, as answers, depth first: 1,265 from the first question."""
    if question is None:
        return [()]
    return [(answer, *path) for answer, following in TREE[question].items() for path in list_paths(following)]


def answer_shares(fractions: np.ndarray) -> np.ndarray:
    """Turn vote fractions (N, 37) into each answer's share of its question's votes, 0 where nobody was asked."""
    asked = np.empty_like(fractions)
    for places in PLACES.values():
        asked[:, places] = fractions[:, places].sum(1, keepdims=True)
    return np.divide(fractions, asked, out=np.zeros_like(fractions), where=asked != 0)


def likeliest_path(fractions: np.ndarray) -> np.ndarray:
    """Find the position in `list_paths()` (N,) of each galaxy's most probable path from vote fractions (N, 37).

    The probability of a path is the product of its answers' shares. -1 where it is unknown or 0.
    """
    shares = answer_shares(fractions)

    @cache
    def best_path(question: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Probability (N,) and position in `list_paths(question)` (N,) of the best path from here on."""
        if question is None:
            return np.ones(len(shares)), np.zeros(len(shares), np.int64)
        probabilities, positions, first = [], [], 0
        for place, following in zip(PLACES[question], TREE[question].values(), strict=True):
            probability, position = best_path(following)
            probabilities.append(shares[:, place] * probability)
            positions.append(first + position)
            first += len(list_paths(following))
        answer = np.argmax(probabilities, axis=0)
        return np.max(probabilities, axis=0), np.choose(answer, positions)

    probability, position = best_path(1)
    return np.where(probability > 0, position, -1)


def largest_answer(fractions: np.ndarray, question: int) -> np.ndarray:
    """Find the answer of a question with most votes (N,) from vote fractions (N, 37); -1 where unknown or not asked."""
    votes = fractions[:, PLACES[question]]
    return np.where(votes.sum(1) > 0, votes.argmax(1), -1)
