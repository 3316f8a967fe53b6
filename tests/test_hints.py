"""Hints name what is nearest to a misspelled name."""

import subprocess
import sys

from common.hints import nearest_hint, nearest_names

NAMES = ["temperature", "momentum", "max_epochs"]


def test_the_nearest_name_comes_first():
    assert nearest_names("temprature", NAMES) == ["temperature"]
    assert nearest_names("max_epoch", {*NAMES, "epochs"}, count=2) == ["max_epochs", "epochs"]


def test_nothing_resembles_a_foreign_name():
    assert nearest_names("zzz", NAMES) == [] and nearest_hint("zzz", NAMES) == ""


def test_without_a_cutoff_every_name_counts():
    assert sorted(nearest_names("zzz", NAMES, count=5, cutoff=0)) == sorted(NAMES)


def test_the_hint_ends_an_error_message():
    assert nearest_hint("momentun", NAMES) == "; the nearest one is 'momentum'"
    assert nearest_hint("momentun", iter(NAMES), "option") == "; the nearest option is 'momentum'"


def test_common_pieces_import_no_torch():
    program = "import sys, common.files, common.hints; assert not {'torch', 'lightning'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
