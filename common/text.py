"""Small helpers for sentences."""


def plural(count: int, word: str) -> str:
    """'1 label', '5 labels', '0 labels'."""
    return f"{count} {word}{'' if count == 1 else 's'}"
