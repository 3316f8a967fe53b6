"""What splits are called in sentences and captions."""

SPLITS = {"train": "training", "val": "validation", "test": "test", "bank": "training"}


def name_split(split: object) -> str:
    """'val' -> 'validation', which older figures show that do not name their split."""
    return SPLITS.get(str(split), "validation")
