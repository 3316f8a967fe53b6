"""Columns of a CSV file as text, numbers or classes; a row that does not parse is an error with its file and line."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lightning.pytorch.utilities.exceptions import MisconfigurationException

OPEN = {"newline": "", "encoding": "utf-8-sig", "errors": "replace"}


@dataclass
class Columns:
    """Columns of the N rows of a file.

    Attributes:
        text: name of a column -> its cells.
        numbers: float32 (N, T), NaN where a cell is empty.
        lines: the line of the file in which each row ends.
    """

    text: dict[str, list[str]]
    numbers: np.ndarray
    lines: list[int]


def read_header(path: Path) -> list[str]:
    """Read the names of the columns."""
    with open(path, **OPEN) as file:
        return [name.strip() for name in next(csv.reader(file), [])]


def read_columns(path: Path, text: list[str], numbers: list[str]) -> Columns:
    """Read some columns as text and others as numbers.

    Raises:
        MisconfigurationException: there is no such column; a row has more or fewer cells than the header; a cell that
            should be a number is none.
    """
    header = read_header(path)
    for name in (*text, *numbers):
        if name not in header:
            names = ", ".join(header[:8]) + (", ..." if len(header) > 8 else "")
            raise MisconfigurationException(
                f"{path.absolute()} has no column {name!r}; its columns are {names}: set id_column or target_columns"
            )
        if header.count(name) > 1:
            raise MisconfigurationException(f"{path.absolute()} has two columns {name!r}: rename one of them")
    columns, table = Columns({name: [] for name in text}, np.empty(0), []), []
    text_places, number_places = ([header.index(name) for name in names] for names in (text, numbers))
    with open(path, **OPEN) as file:
        reader = csv.reader(file, strict=True)
        next(reader)
        try:
            for row in filter(None, reader):
                if len(row) != len(header):
                    raise ValueError(f"{len(row)} cells where the header has {len(header)}")
                table.append(parse_numbers([row[place] for place in number_places]))
                columns.lines.append(reader.line_num)
                for column, place in zip(columns.text.values(), text_places, strict=True):
                    column.append(row[place].strip())
        except (csv.Error, ValueError) as error:
            raise MisconfigurationException(f"{path.absolute()}, line {reader.line_num}: {error}") from error
    columns.numbers = np.array(table, np.float32).reshape(len(table), len(numbers))
    return columns


def parse_numbers(cells: list[str]) -> np.ndarray:
    """Parse cells as float32 (T,), NaN where a cell is empty."""
    numbers = np.array([float(cell) if cell.strip() else np.nan for cell in cells], np.float32)
    if np.isinf(numbers).any():
        raise ValueError(f"{cells[np.isinf(numbers).argmax()]} is not finite")
    return numbers


def parse_classes(cells: list[str]) -> tuple[np.ndarray, list[str]]:
    """Parse cells as classes int64 (N,), -1 where a cell is empty, NaN or -1; and the name of each class, in order."""
    names = {cell for cell in cells if cell.lower() not in ("", "nan", "-1")}
    names = sorted(names, key=int if all(name.isdecimal() for name in names) else None)
    class_of = {name: k for k, name in enumerate(names)}
    return np.array([class_of.get(cell, -1) for cell in cells], np.int64), names
