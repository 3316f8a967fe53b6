"""From which effective rank on features count as spread out."""


def least_rank(usual: float, examples: float, dim: float) -> float:
    """Return the rank below which features have collapsed, at most `usual`.

    So few examples, or features of so few dimensions, that their rank cannot be `usual`, may have less: a fifth of the
    directions that they can have beside the first.
    """
    return min(usual, 1 + (min(examples, dim) - 1) / 5)
