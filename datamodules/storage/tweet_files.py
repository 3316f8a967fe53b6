"""Tweets in files, labeled as CSV or one a line, in UTF-8 or Latin-1 -> ASCII."""

import codecs
import csv
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lightning.pytorch.utilities.exceptions import MisconfigurationException

COLUMNS = {"text": "text", "tweet": "text", "label": "label", "sentiment": "label", "source": "source"}
LABELS = ("0", "1")
# what typographers and phones write, where Unicode knows no ASCII for it
PUNCTUATION = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-", "\u2022": "*"}
)


class LabeledTweets(NamedTuple):
    """Of each tweet its text, its label 0 or 1, and the name of its source, "" where the file has none."""

    texts: list[str]
    labels: list[int]
    sources: list[str]


class BadLine(Exception):
    """What is wrong with a line of a file."""

    def __init__(self, line: int, found: str):
        self.line, self.found = line, found


def to_ascii(text: str, transliterate: bool) -> bytes:
    """Codes 1 to 127. Accents are taken off and curly quotes straightened, or left out; the rest is left out."""
    if transliterate:
        text = unicodedata.normalize("NFKD", text.translate(PUNCTUATION))
    return text.encode("ascii", "ignore").replace(b"\0", b"")


def read_lines(path: Path) -> list[str]:
    """The lines of a file, without their ends. One that is not UTF-8 is read as Windows-1252, which holds Latin-1.

    Raises:
        MisconfigurationException: the file cannot be read, or is UTF-16.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MisconfigurationException(f"{path.absolute()} cannot be read: {error.strerror}") from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise MisconfigurationException(f"{path.absolute()} is UTF-16: save it as UTF-8")
    return [_decode(line) for line in data.removeprefix(codecs.BOM_UTF8).splitlines()]


def _decode(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("cp1252", errors="replace")


def read_tweets(path: Path) -> LabeledTweets:
    """A CSV file: each line a tweet and 0 or 1, in either order, or columns `text`, `label` and `source` of a header.

    A tweet in quotes may go over several lines; without quotes, a line's surplus commas belong to the tweet.

    Raises:
        MisconfigurationException: no tweets, or a line that is none, or that could be either of these; says which.
    """
    try:
        return _read(read_lines(path))
    except BadLine as bad:
        raise MisconfigurationException(
            f"{path.absolute()}, line {bad.line}: expected a tweet, a comma and its label, 0 or 1, found {bad.found}"
        ) from None


def _read(lines: list[str]) -> LabeledTweets:
    readings, failures = [], []
    for rows in (_line_by_line(lines), _over_lines(lines)):
        try:
            rows = list(rows)
            readings.append((rows, _labeled(rows)))
        except BadLine as bad:
            failures.append(bad)
    if not readings:
        raise max(failures, key=lambda bad: bad.line)  # of the reading that got further
    (by_line, tweets), (over_lines, _) = readings[0], readings[-1]
    for (line, fields), (_, others) in zip(by_line, over_lines, strict=False):
        if fields != others:
            raise BadLine(
                line,
                "a quote that closes in a later line, which may be a tweet too: remove line break or quote",
            )
    return tweets


def _line_by_line(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """(number, fields) of each line that is not blank; quotes that are not CSV's belong to the tweet."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield number, next(csv.reader([line], strict=True))
            except csv.Error:
                yield number, line.split(",")


def _over_lines(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """The same for strict CSV, where a field in quotes may hold line ends."""
    reader = csv.reader((f"{line}\n" for line in lines), strict=True)
    number = 1
    try:
        for row in reader:
            if "".join(row).strip():
                yield number, row
            number = reader.line_num + 1
    except csv.Error as error:
        raise BadLine(number, f"no CSV ({error})") from error


def _labeled(rows: list[tuple[int, list[str]]]) -> LabeledTweets:
    """(number, fields) of each row -> tweets."""
    columns = [COLUMNS.get(field.strip().lower(), "") for field in rows[0][1]] if rows else []
    if {"text", "label"} <= set(columns):
        rows = rows[1:]
    else:
        first, last = (sum(row[place].strip() in LABELS for _, row in rows) for place in (0, -1))
        columns = ["label", "text"] if first > last else ["text", "label"]
    if not rows:
        raise BadLine(1, "no tweets")
    tweets = LabeledTweets([], [], [])
    for number, row in rows:
        cells = _cells(row, columns)
        if cells.get("label", "").strip() not in LABELS:
            found = f"label {cells['label']!r}" if "label" in cells else repr(",".join(row)[:60])
            raise BadLine(number, found)
        tweets.texts.append(cells["text"])
        tweets.labels.append(int(cells["label"]))
        tweets.sources.append(cells.get("source", ""))
    return tweets


def _cells(row: list[str], columns: list[str]) -> dict[str, str]:
    """Column -> field; empty where the row is too short."""
    surplus, at = len(row) - len(columns), columns.index("text")
    if surplus < 0:
        return {}
    text = ",".join(row[at : at + surplus + 1])
    return dict(zip(columns, [*row[:at], text, *row[at + surplus + 1 :]], strict=True))


def read_unlabeled(path: Path) -> list[str]:
    """One tweet a line, blank ones left out. Raises where there is none."""
    tweets = [line for line in read_lines(path) if line.strip()]
    if not tweets:
        raise MisconfigurationException(f"{path.absolute()} has no tweets: expected one a line")
    return tweets
