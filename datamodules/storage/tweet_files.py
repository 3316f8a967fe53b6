"""Tweets from files in UTF-8 or Latin-1, labeled in a CSV or without labels one a line, and their ASCII."""

import codecs
import csv
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from common.files import readable_os_errors

COLUMNS = {"text": "text", "tweet": "text", "label": "label", "sentiment": "label", "source": "source"}
LABELS = ("0", "1")
FORMS = (
    "a line is a tweet, a comma and its label, 0 or 1, or the label first; of a table, a header names the columns: "
    "text or tweet, label or sentiment, and source if there is one"
)
# what typographers and phones write, where Unicode knows no ASCII for it
PUNCTUATION = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-", "\u2022": "*"}
)


class LabeledTweets(NamedTuple):
    """The text, the label 0 or 1, and the name of the source of each tweet, "" where the file has no source."""

    texts: list[str]
    labels: list[int]
    sources: list[str]


class BadLine(Exception):
    """A line of a file that is no tweet, with what is there instead."""

    def __init__(self, line: int, content: str):
        self.line, self.content = line, content


def to_ascii(text: str, transliterate: bool) -> bytes:
    """Encode a text in codes 1 to 127, other characters left out.

    Args:
        transliterate: first take off accents, and straighten curly quotes and dashes.
    """
    if transliterate:
        text = unicodedata.normalize("NFKD", text.translate(PUNCTUATION))
    return text.encode("ascii", "ignore").replace(b"\0", b"")


def read_lines(path: Path) -> list[str]:
    """Read the lines of a file without their ends. One that is not UTF-8 is read as Windows-1252, which holds Latin-1.

    Raises:
        MisconfigurationException: the file cannot be read, or is UTF-16.
    """
    with readable_os_errors(path.absolute(), "{path} cannot be read: {reason}"):
        data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise MisconfigurationException(f"{path.absolute()} is UTF-16: save it as UTF-8")
    return [decode_line(line) for line in data.removeprefix(codecs.BOM_UTF8).splitlines()]


def decode_line(line: bytes) -> str:
    """Decode a line of UTF-8, or else of Windows-1252."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("cp1252", errors="replace")


def read_tweets(path: Path) -> LabeledTweets:
    """Read a CSV file: each line a tweet and 0 or 1, in either order, or columns `text`, `label`, `source` of a header.

    A tweet in quotes may go over several lines; without quotes, a line's surplus commas belong to the tweet, unless
    they divide all lines as those of a table do. Other columns of a header are left out.

    Raises:
        MisconfigurationException: no tweets, or a line that is none, or that can be read in two ways; says which. A
            table without a header, or with two columns of one meaning.
    """
    try:
        return parse_tweets(read_lines(path))
    except BadLine as bad:
        raise MisconfigurationException(
            f"{path.absolute()}, line {bad.line}: expected a tweet, a comma and its label, 0 or 1, "
            f"found {bad.content}; what is understood: {FORMS}"
        ) from None


def parse_tweets(lines: list[str]) -> LabeledTweets:
    """Parse the lines of a CSV file in both ways, where quotes close in their line and where they may span lines."""
    readings, failures = [], []
    for rows in (split_each_line(lines), split_across_lines(lines)):
        try:
            rows = list(rows)
            readings.append((rows, label_rows(rows)))
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


def split_each_line(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (number, fields) of each line that is not blank; quotes that are not CSV's belong to the tweet."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield number, next(csv.reader([line], strict=True))
            except csv.Error:
                yield number, line.split(",")


def split_across_lines(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (number, fields) of each row of strict CSV, where a field in quotes may hold line ends."""
    reader = csv.reader((f"{line}\n" for line in lines), strict=True)
    number = 1
    try:
        for row in reader:
            if "".join(row).strip():
                yield number, row
            number = reader.line_num + 1
    except csv.Error as error:
        raise BadLine(number, f"no CSV ({error})") from error


def label_rows(rows: list[tuple[int, list[str]]]) -> LabeledTweets:
    """Turn (number, fields) of each row into tweets."""
    columns = [COLUMNS.get(field.strip().lower(), "") for field in rows[0][1]] if rows else []
    if {"text", "label"} <= set(columns):
        check_header(*rows[0], columns)
        rows = rows[1:]
    else:
        first, last = (sum(row[place].strip() in LABELS for _, row in rows) for place in (0, -1))
        columns = ["label", "text"] if first > last else ["text", "label"]
        if is_table([row[1:] if first > last else row[:-1] for _, row in rows]):
            raise BadLine(
                rows[0][0], f"a table of {len(rows[0][1])} columns without a header that names them"
            )
    if not rows:
        raise BadLine(1, "no tweets")
    tweets = LabeledTweets([], [], [])
    for number, row in rows:
        cells = match_cells(row, columns)
        if cells.get("label", "").strip() not in LABELS:
            content = f"label {cells['label']!r}" if "label" in cells else repr(",".join(row)[:60])
            raise BadLine(number, content)
        tweets.texts.append(cells["text"])
        tweets.labels.append(int(cells["label"]))
        tweets.sources.append(cells.get("source", ""))
    return tweets


def check_header(line: int, names: list[str], columns: list[str]) -> None:
    """Raise where two columns of a header have one meaning."""
    for meaning in ("text", "label", "source"):
        same = [name.strip() for name, column in zip(names, columns, strict=True) if column == meaning]
        if len(same) > 1:
            raise BadLine(
                line, f"{len(same)} columns for the {meaning}, {' and '.join(same)}: keep one of them"
            )


def is_table(texts: list[list[str]]) -> bool:
    """Check whether commas divide the texts of all lines, each given as its parts, as they divide columns.

    In prose a space follows a comma, and some texts have no comma. In a table each line has one without a space, in
    the same place from the left or from the right; or ten lines or more have all equally many.
    """
    if len(texts) < 2 or min(map(len, texts)) < 2:
        return False
    without_space = (all(not parts[place].startswith(" ") for parts in texts) for place in (1, -1))
    return any(without_space) or (len(texts) >= 10 and len(set(map(len, texts))) == 1)


def match_cells(row: list[str], columns: list[str]) -> dict[str, str]:
    """Match fields to columns; empty where the row is too short."""
    surplus, at = len(row) - len(columns), columns.index("text")
    if surplus < 0:
        return {}
    text = ",".join(row[at : at + surplus + 1])
    return dict(zip(columns, [*row[:at], text, *row[at + surplus + 1 :]], strict=True))


def read_unlabeled(path: Path) -> list[str]:
    """Read one tweet a line, blank ones left out. Raise where there is none."""
    tweets = [line for line in read_lines(path) if line.strip()]
    if is_table([line.split(",") for line in tweets]):
        raise MisconfigurationException(
            f"{path.absolute()} looks like a table: all lines have commas without a space, as columns have; expected a "
            "tweet a line, and nothing else"
        )
    if not tweets:
        raise MisconfigurationException(f"{path.absolute()} has no tweets: expected one a line")
    return tweets
