"""What pages draw from the data behind figures, and how runs are laid side by side."""

import base64
import json
import re
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from launch.run_folder import read_lineage
from reports import images
from reports.accuracies import read_ceilings
from reports.compare.differences import list_differences
from reports.compare.members import make_members
from reports.compare.page import render_comparison
from reports.compare.scales import make_shared_scales
from reports.compare.summary import describe_leader
from reports.compare.tables import compare_classes, compare_numbers
from reports.figure_data import load_npz
from reports.report import render_report, write_report
from reports.run import NoRunError, load_run
from reports.sections import class_activation, feature_map, neighbors
from reports.sections.confusion import load_confusion
from tests.conftest import command_line
from tests.pages import EPOCHS, NAMES, write_figure, write_run


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two seeds of SimCLR, and a classifier."""
    runs = tmp_path_factory.mktemp("runs")
    return [
        write_run(runs / "simclr" / "version_0"),
        write_run(runs / "simclr" / "version_1", seed=1, gain=0.4),
        write_run(runs / "supervised" / "version_0", "Classifier", seed=2, gain=0.6, label_smoothing=0.1),
    ]


@pytest.fixture(scope="module")
def runs(folders):
    return [load_run(folder) for folder in folders]


def decode_picture(uri: str) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))


def test_pictures_come_out_as_they_went_in():
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    assert np.array_equal(decode_picture(images.encode_picture(image)), image)
    assert np.array_equal(decode_picture(images.encode_picture(image[..., :1]))[..., 0], image[..., 0])


def test_an_atlas_has_each_picture_in_its_place():
    colors = np.arange(1, 95, dtype=np.uint8)
    sheet = decode_picture(
        images.encode_atlas(np.broadcast_to(2 * colors[:, None, None, None], (94, 8, 8, 3)))
    )
    assert sheet.shape == (3 * 8, images.COLUMNS * 8, 3)
    for k in (0, 39, 40, 93):
        row, column = divmod(k, images.COLUMNS)
        assert abs(int(sheet[8 * row + 4, 8 * column + 4, 0]) - 2 * int(colors[k])) < 8  # lossy


def test_a_map_keeps_places_to_a_pixel_and_all_epochs(runs):
    tsne = feature_map.load_map(runs[0], "tsne")
    assert list(tsne["data"]["frames"]) == list(EPOCHS) == tsne["epochs"]
    with np.load(runs[0].path / "figures/tsne/epoch=9.npz") as saved:
        xy = saved["xy"]
    packed = np.frombuffer(base64.b64decode(tsne["data"]["frames"][9]), "<u2").reshape(-1, 2).astype(float)
    side = (xy.max(0) - xy.min(0)).max()
    assert np.allclose((packed - packed[0]) / 65535, (xy - xy[0]) / side, atol=1e-4)
    assert tsne["data"]["groups"] == [k % 4 for k in range(40)] and tsne["wrong"]


def test_nearest_on_a_map_is_brute_force():
    xy = np.random.default_rng(0).normal(size=(60, 2))
    far = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    np.fill_diagonal(far, np.inf)
    nearest = feature_map.find_map_neighbors(np.arange(60), xy)
    assert np.array_equal(np.sort(nearest), np.sort(far.argsort(1)[:, :10]))


def test_of_many_classes_nine_have_a_color():
    labels = np.repeat(np.arange(12), np.arange(1, 13))
    colored = feature_map.color_by_class(labels, [f"class {k}" for k in range(12)])
    assert colored["group_names"] == [*(f"class {k}" for k in range(3, 12)), "other classes"]
    assert (
        colored["groups"][:6] == [9] * 6 and colored["groups"][-1] == 8 and colored["colors"][9] == "--other"
    )
    numbers = feature_map.color_by_value(np.array([0.0, 1, 2, np.nan]))
    assert numbers["groups"][3] == len(feature_map.RAMP) and numbers["groups"][0] < numbers["groups"][2]


def test_the_light_falls_where_the_evidence_is():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    maps = np.zeros((4, 4), np.float32)
    maps[0, 0] = 5
    lit, large = class_activation.overlay_evidence(image, maps), image.repeat(4, 0).repeat(4, 1)
    assert lit.shape == (128, 128, 3) and np.abs(lit[:8, :8].astype(float) - large[:8, :8]).max() < 20
    gray = 0.45 * large[96:, 96:].mean(2, keepdims=True)
    assert np.abs(lit[96:, 96:] - gray).max() <= 1
    assert (lit == (255, 210, 77)).all(2).sum() > 20  # the contour
    assert (class_activation.overlay_evidence(image, -maps) <= 0.45 * 255).all()  # nothing speaks for it


def test_a_confusion_cell_has_its_share_and_its_examples(runs):
    matrix = load_confusion(runs[0])
    assert matrix["rows"][0]["cells"][0]["label"] == "cat rightly recognized: 9 of 12 (75.0 %)"
    assert matrix["sprites"]["cells"][5] == [5]
    first = [cell["first"] for row in matrix["rows"] for cell in row["cells"]]
    assert (
        sum(first) == 1
        and not matrix["rows"][first.index(True) // 4]["cells"][first.index(True) % 4]["right"]
    )


def test_neighbors_of_another_class_are_marked(runs):
    rows = neighbors.load_queries(runs[0])
    near = rows[0]["kinds"][0]["near"]
    assert [n["wrong"] for n in near] == [n["name"] != "cat" for n in near]
    assert near[0]["picture"].startswith("data:image/webp") and rows[0]["kinds"][1]["name"] == "by pixels"


def test_the_page_asks_its_questions_and_says_what_was_not_drawn(runs):
    html = render_report(runs[0])
    asked = re.findall(r"<h2>(.*?)</h2>", html)
    assert asked[:5] == [
        "Did it learn?",
        "What does it find alike?",
        "What does it find most similar?",
        "Where does it look?",
        "Where does it fail?",
    ]
    assert (
        "Samples: SimCLR has no decoder." in html and "<b>ship</b>" not in html and "<i>few</i>" not in html
    )
    ids = set(re.findall(r'<section id="(\w+)"', html))
    assert set(re.findall(r'<a href="#(\w+)">', html)) - {"main"} == ids
    for block in re.findall(r'<script type="application/json">(.*?)</script>', html, flags=re.S):
        json.loads(block)


def test_groups_are_told_best_first(tmp_path):
    folder = write_run(tmp_path / "grouped", "Classifier")
    with (folder / "metrics.csv").open("a") as file:
        file.write("10,101,,,,,,\n")
    text = (folder / "metrics.csv").read_text().splitlines()
    text[0] += ",test/top1/airline,test/top1/vader,test/top1"
    text[-1] += ",0.9,0.75,0.8"
    (folder / "metrics.csv").write_text("\n".join(text) + "\n")
    html = render_report(load_run(folder))
    assert (
        "Best on airline (90.0 % right), worst on vader (75.0 %)." in html
        and "the whole split, 80.0 %" in html
    )
    assert "<dt>Accuracy at the end</dt><dd>test 80.0 %</dd>" in html


def test_data_that_cannot_be_read_leave_the_picture(folders, tmp_path):
    folder = write_run(tmp_path / "broken")
    (folder / "figures" / "tsne" / "epoch=9.npz").write_bytes(b"cut off")
    (folder / "figures" / "confusion" / "epoch=9.json").write_text("{")
    html = render_report(load_run(folder))
    assert (
        "<canvas" not in html
        and 'alt="Map of features, epoch 9"' in html
        and 'alt="Confusions, epoch 9"' in html
    )


def test_a_malicious_array_is_not_unpickled(tmp_path):
    folder = write_run(tmp_path / "evil")

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    objects = np.array([Evil()], dtype=object)
    np.savez(folder / "figures" / "tsne" / "epoch=9.npz", xy=objects, index=objects, labels=objects)
    render_report(load_run(folder))
    assert not (tmp_path / "owned").exists()


def test_a_ceiling_stands_on_the_scale(folders, runs):
    html = render_report(runs[0], runs[2])
    assert "ceiling 90.0" in html and "30.0 points below supervised, the ceiling" in html
    other = load_run(folders[2])
    other.provenance["data"] = "STL10"
    with pytest.raises(NoRunError, match="no ceiling"):
        render_report(runs[0], other)


def test_every_stage_that_led_to_the_encoder_is_told(runs, tmp_path):
    run = load_run(write_run(tmp_path / "tuned", "Classifier"))
    run.provenance["stages"] = [
        {"run": "simclr/version_0", "config": runs[0].config, "provenance": {"method": "SimCLR"}}
    ]
    html = render_report(run)
    assert "<h3>1. simclr/version_0</h3>" in html and "<h3>2. This run</h3>" in html
    assert html.index("1. simclr") < html.index("mirrored with probability 0.5") < html.index("2. This run")


def test_a_run_remembers_the_stages_before_it(tmp_path):
    first = write_run(tmp_path / "simclr" / "version_0")
    ckpt = first / "checkpoints" / "last.ckpt"
    (stage,) = read_lineage(str(ckpt))
    assert stage["run"] == "simclr/version_0" and stage["provenance"]["method"] == "SimCLR"
    second = write_run(tmp_path / "tuned" / "version_3", "Classifier")
    provenance = json.loads((second / "provenance.json").read_text()) | {"stages": [stage]}
    (second / "provenance.json").write_text(json.dumps(provenance))
    assert [s["run"] for s in read_lineage(str(second / "checkpoints" / "best.ckpt"))] == [
        "simclr/version_0",
        "tuned/version_3",
    ]
    assert read_lineage(None) == read_lineage(str(tmp_path / "alone.ckpt")) == []
    (first / "provenance.json").write_text(
        '{"state": "fin'
    )  # cut short: the run on top of it starts all the same
    assert read_lineage(str(ckpt)) == []


def test_seeds_are_one_member_with_a_spread(runs):
    simclr, classifier = make_members(runs)
    assert (simclr.name, classifier.name) == ("SimCLR", "Classifier") and len(simclr.group.runs) == 2
    numbers = compare_numbers([simclr, classifier])
    heads = [" ".join(head).strip() for head in numbers["heads"]]
    cell = dict(zip(heads[1:], numbers["rows"][0]["cells"], strict=True))
    assert cell["Probe test"]["text"] == "65.0 ± 7.1" and not cell["Probe test"]["best"]
    assert cell["Seeds"]["text"] == "2" and numbers["rows"][1]["cells"][0]["best"]


def test_names_tell_runs_apart(folders, tmp_path):
    longer = write_run(tmp_path / "longer" / "version_0", temperature=0.1)
    members = make_members([load_run(folders[0]), load_run(longer)])
    assert [m.name for m in members] == ["simclr", "longer"] and len(
        {(m.color, m.shape) for m in members}
    ) == 2


def test_scales_have_chance_floor_and_every_run(runs):
    rows = {row["title"]: row for row in make_shared_scales(make_members(runs))}
    marks = {mark["text"] for mark in rows["Linear probe"]["marks"]}
    assert marks == {"chance 25", "untrained 31.0", "SimCLR 65.0", "Classifier 90.0"}
    assert (
        "*Classifier* leads by the linear probe on the test split: *90.0 %*, 25.0 points above SimCLR"
        in describe_leader(make_members(runs))
    )


def test_classes_are_ordered_by_what_tells_runs_apart(folders, runs):
    file = folders[2] / "figures" / "confusion" / "epoch=9.json"
    facts = json.loads(file.read_text())
    original = json.dumps(facts)
    facts["counts"][3] = [12, 0, 0, 1]
    file.write_text(json.dumps(facts))
    comparison = compare_classes(make_members(runs))
    file.write_text(original)
    assert comparison["rows"][0]["name"] == "truck"
    assert comparison["finding"] == "They differ most on truck: SimCLR recognizes 77 %, Classifier 8 %."


def test_classes_of_other_splits_are_not_laid_side_by_side(folders, runs):
    file = folders[2] / "figures" / "confusion" / "epoch=9.json"
    original = file.read_text()
    assert compare_classes(make_members(runs))["split"] == "validation"
    file.write_text(json.dumps(json.loads(original) | {"split": "test"}))
    comparison = compare_classes(make_members(runs))
    file.write_text(original)
    assert comparison is None


def test_other_classes_of_the_same_images_are_other_data(runs):
    names = runs[2].provenance["class_names"]
    assert "several data sets" not in render_comparison(runs)
    runs[2].provenance["class_names"] = ["animals", "vehicles"]
    html = render_comparison(runs)
    with pytest.raises(NoRunError, match="tells other classes apart"):
        read_ceilings(runs[0], runs[2])
    runs[2].provenance["class_names"] = names
    assert "several data sets" in html and "leads by" not in html


def test_the_spread_of_seeds_is_that_of_numbers_that_are_not_rounded(runs):
    member = make_members(runs)[0]
    values = [run.last("test/probe_top1") for run in member.group.runs]
    assert member.percent(("probe", None), "test") == [100 * value for value in values] and len(values) == 2


def test_a_damaged_array_is_one_that_is_not_there(tmp_path):
    file = tmp_path / "map.npz"
    np.savez_compressed(file, points=np.random.default_rng(0).normal(size=(99, 9)))
    content = bytearray(file.read_bytes())
    content[600:660] = bytes(range(60))
    file.write_bytes(content)
    assert load_npz(file) == {}


def test_only_what_differs_is_shown(runs):
    rows = list_differences(make_members(runs))
    assert [row["key"] for row in rows] == ["model.class_path", "model.label_smoothing"]
    assert rows[1]["values"] == [None, "0.1"]
    runs[0].config["data"]["init_args"]["views"].append({"gray": 1.0})
    rows = list_differences(make_members([runs[0], runs[2]]))
    runs[0].config["data"]["init_args"]["views"].pop()
    assert rows[0] == {"key": "data.views", "values": ["without color with probability 1", None]}


def test_the_same_images_stand_side_by_side(runs):
    html = render_comparison(runs)
    assert html.count('data-group="linked"') == 2 and html.count('id="atlas-tsne"') == 1
    assert "Where do they look?" in html and "Do their layers hold the same?" in html
    assert NAMES[2] not in html  # escaped


def test_runs_on_different_data_share_no_scale(runs, tmp_path):
    folder = write_run(tmp_path / "other" / "version_0", "RotNet")
    provenance = json.loads((folder / "provenance.json").read_text()) | {"data": "STL10"}
    (folder / "provenance.json").write_text(json.dumps(provenance))
    html = render_comparison([runs[0], load_run(folder)])
    assert (
        "accuracies are not drawn on one scale" in html
        and 'class="crow"' not in html
        and "<canvas" not in html
    )


def test_what_cannot_be_compared_is_refused_in_one_line(folders, tmp_path, capsys):
    assert command_line("report", folders[0], folders[1]) == 2
    assert "nothing to compare" in capsys.readouterr().err
    assert command_line("report", folders[0], tmp_path) == 2
    assert "is no run folder" in capsys.readouterr().err
    assert command_line("report", folders[0], folders[2], "--output", tmp_path / "no" / "page.html") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert command_line("report", folders[0], "--ceiling", tmp_path) == 2


def test_the_verb_writes_one_page_or_the_other(folders, tmp_path, capsys):
    assert command_line("report", folders[0], "--ceiling", folders[2]) == 0
    assert (folders[0] / "report.html").is_file()
    assert command_line("report", *folders, "--output", tmp_path / "page.html") == 0
    assert "SimCLR and Classifier on Tiny" in (tmp_path / "page.html").read_text()
    assert command_line("report", *folders) == 0
    assert (folders[0].parent.parent / "comparison.html").is_file()


def test_attention_and_patches_answer_a_question_in_every_epoch(tmp_path):
    folder = write_run(tmp_path / "tokens")
    facts = {"split": "val", "layers": 6, "heads": 3, "tokens": 65, "query": "class token"}
    shares = {"shares": [0.5, 0.2, 0.05], "kind": "patches", "position_share": 0.61}
    for epoch in EPOCHS:
        write_figure(folder, "attention", epoch, facts)
        write_figure(folder, "patch_map", epoch, shares)
    html = render_report(load_run(folder))
    for name, title in (
        ("attention", "Attention to patches"),
        ("patch_map", "Principal components as colors"),
    ):
        section = html[html.index(f"<h3>{title}</h3>") :]
        assert f'aria-label="Epoch of {title}"' in section
        for epoch in EPOCHS:
            assert f'data-source="figures/{name}/epoch={epoch}.png"' in section
    assert "How much the class token takes from each patch in the last of 6 layers" in html
    assert (
        "Three components have 75 % of the variance of patches; their position accounts for 61 % of it."
        in html
    )
    write_figure(folder, "attention", 9, facts | {"query": "patches"})
    write_figure(folder, "patch_map", 9, shares | {"kind": "cells of the last maps", "position_share": None})
    html = render_report(load_run(folder))
    assert "How much all patches, on average, take from each patch" in html
    assert "75 % of the variance of cells of the last maps." in html


def test_grad_cam_says_at_which_layer(tmp_path):
    folder = write_run(tmp_path / "tokens")
    facts = {"split": "val", "evidence": "Grad-CAM", "head": "probe", "classes": NAMES}
    file = folder / "figures" / "cam" / "epoch=9.json"
    for layer in ({}, {"layer": "encoder.blocks.5.norm1"}):
        file.write_text(json.dumps(facts | layer))
        at = " at encoder.blocks.5.norm1," if layer else ""
        assert f"Grad-CAM{at} through the probe: the light falls" in render_report(load_run(folder))


def test_a_report_stays_small(folders, tmp_path):
    assert write_report(folders[0]).stat().st_size < 1_000_000
    large = write_run(tmp_path / "large")
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    (large / "figures" / "samples").mkdir()
    for epoch in range(6):  # of 1.5 MB
        Image.fromarray(np.roll(noise, epoch)).save(large / "figures" / "samples" / f"epoch={epoch}.png")
    html = render_report(load_run(large))
    assert len(html) < 4_000_000 and 'alt="Images drawn from the prior, epoch 5"' in html
    assert re.search(r"\d of 6 epochs, to keep this page small", html)
