"""Which files of a folder are images to read, and what is left out, and why."""

from collections import Counter
from pathlib import Path

from common.splits import SPLITS

JPG = (".jpg", ".jpeg")
JPG_OR_PNG = (*JPG, ".png")


class FileListing:
    """Lists the images of one or several folders of a data set, and counts what it leaves out.

    Args:
        root: the folder of the data set.
        suffixes: of the files that are read, in upper or lower case.
    """

    def __init__(self, root: Path, suffixes: tuple[str, ...]):
        self.root, self.suffixes = root, suffixes
        self.listed: list[Path] = []
        self.hidden, self.by_suffix, self.by_place = 0, Counter(), Counter()

    def is_image(self, path: Path) -> bool:
        """Check whether a file is to be read. One that is not is counted, except folders."""
        if path.name.startswith("."):  # also `._a.jpg`, which macOS puts beside a.jpg
            self.hidden += path.is_file()
        elif path.is_file() and path.suffix.lower() in self.suffixes:
            return True
        elif path.is_file():
            self.by_suffix[path.suffix.lower() or "without a suffix"] += 1
        return False

    def list_images(self, folder: Path) -> list[Path]:
        """List the images directly in a folder, by name."""
        images = []
        self.listed.append(folder)
        for path in sorted(folder.iterdir()):
            if self.is_image(path):
                images.append(path)
            elif path.is_dir() and not path.name.startswith("."):
                self.leave_out_folder(path)
        return images

    def walk_images(self) -> list[str]:
        """List the images in the root and in all folders in it, by their paths in it; what is hidden is left out."""
        names = []
        for path in self.root.rglob("*"):
            place = path.relative_to(self.root)
            if any(part.startswith(".") for part in place.parts[:-1]):
                self.hidden += path.is_file()
            elif self.is_image(path):
                names.append(place.as_posix())
        return sorted(names)

    def leave_out_rest(self, folder: Path) -> None:
        """Count what lies in a folder beside the folders that were listed, or that hold one of them."""
        holders = {holder for listed in self.listed for holder in (listed, *listed.parents)}
        images = 0
        for path in folder.iterdir():
            if self.is_image(path):
                images += 1
            elif path.is_dir() and not path.name.startswith(".") and path not in holders:
                self.leave_out_folder(path)
        if images:
            self.by_place[f"directly in {folder}"] += images

    def leave_out_folder(self, folder: Path) -> None:
        """Count the images in a folder, and in all folders in it, where none is looked for."""
        images = sum(path.suffix.lower() in self.suffixes for path in folder.rglob("[!.]*"))
        if images:
            self.by_place[f"in the folder {folder.relative_to(self.root).as_posix()}"] += images

    def describe(self, read: dict[str, int]) -> str:
        """Say in one line how many images of each split are read, and what is left out.

        Args:
            read: split -> number of images.
        """
        counts = ", ".join(f"{count:,} {SPLITS.get(split, split)}".rstrip() for split, count in read.items())
        line = f"{self.root}: {counts} images read"
        others = [f"{count:,} {suffix}" for suffix, count in sorted(self.by_suffix.items())]
        reasons = [f"{', '.join(others)} (read are {', '.join(self.suffixes)})"] if others else []
        reasons += [f"{self.hidden:,} hidden"] if self.hidden else []
        reasons += [f"{count:,} {place}" for place, count in self.by_place.items()]
        return f"{line}; left out: {', '.join(reasons)}" if reasons else line
