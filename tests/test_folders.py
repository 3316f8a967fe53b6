"""Run folders: nobody's run lands in another's, and `last` is what it says."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from launch.folders import find_latest_unfinished, make_new_version


def run_with(folder, state: str, **checkpoints: bytes | int):
    (folder / "checkpoints").mkdir()
    (folder / "provenance.json").write_text(json.dumps({"state": state}))
    for name, content in checkpoints.items():
        path = folder / f"checkpoints/{name}.ckpt"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save({"state_dict": {"a": torch.ones(999)}, "global_step": content}, path)


def test_runs_that_start_in_the_same_second_get_a_folder_each(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: make_new_version(tmp_path / "experiment"), range(16)))
    assert sorted(int(folder.name.removeprefix("version_")) for folder in folders) == list(range(16))


def test_versions_are_counted_as_numbers(tmp_path):
    (tmp_path / "version_9").mkdir()
    (tmp_path / "version_10").mkdir()
    assert make_new_version(tmp_path).name == "version_11"


def test_last_is_the_newest_unfinished_run_that_has_a_checkpoint(tmp_path):
    for state, checkpoints in [
        ("interrupted", {"last": 1}),
        ("running", {"last": 2}),
        ("finished", {"last": 3}),
    ]:
        run_with(make_new_version(tmp_path), state, **checkpoints)
    run_with(make_new_version(tmp_path), "running")
    folder, checkpoint = find_latest_unfinished(tmp_path)
    assert folder.name == "version_1" and checkpoint == folder / "checkpoints/last.ckpt"


@pytest.mark.parametrize("damage", ["cut short", "a hole", "empty", "not one"])
def test_a_damaged_checkpoint_is_named_and_passed_over(tmp_path, damage):
    folder = make_new_version(tmp_path)
    run_with(folder, "running", last=2, previous=1)
    last = folder / "checkpoints/last.ckpt"
    whole = last.read_bytes()
    ones = whole.index(torch.ones(9).numpy().tobytes())
    damaged = {
        "cut short": whole[:-200],
        "a hole": whole[:ones] + bytes(1000) + whole[ones + 1000 :],
        "empty": b"",
        "not one": b"no zip file",
    }
    last.write_bytes(damaged[damage])
    with pytest.warns(UserWarning, match=r"last.ckpt cannot be read"):
        assert find_latest_unfinished(tmp_path)[1].name == "previous.ckpt"


@pytest.mark.parametrize("content", ["", '{"state": "fin'])
def test_a_provenance_cut_short_is_of_an_unfinished_run(tmp_path, content):
    folder = make_new_version(tmp_path)
    run_with(folder, "running", last=2)
    (folder / "provenance.json").write_text(content)
    assert find_latest_unfinished(tmp_path)[0] == folder


def test_nothing_to_go_on_with_is_an_error(tmp_path):
    run_with(make_new_version(tmp_path), "finished", last=1)
    with pytest.raises(MisconfigurationException, match="no unfinished run"):
        find_latest_unfinished(tmp_path)
