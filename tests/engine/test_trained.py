"""`deitlt evaluate`, `predict` and `export`: of our own checkpoints, and of others' with the recipe of their data."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from external_files import ORIGINAL, authors_student, ldam_teacher, linear_teacher, paco_teacher, permuted_teacher
from PIL import Image
from safetensors.torch import load_file

import deitlt
from deitlt.checkpoints import TrainedNetwork, load_student, load_teacher, read_checkpoint, read_spec
from deitlt.cli import main
from deitlt.data.datasets import DataRequest, get_dataset, read_digits
from deitlt.engine import run_folder
from deitlt.errors import CheckpointError
from deitlt.reports.comparison import Hits
from deitlt.transforms import evaluation_transform

DIGITS = ("experiment=digits", "data=digits", "data.max_count=20", "data.imbalance_factor=0.1", "num_workers=0")
PIXELS = torch.rand(7, 3, 16, 16, generator=torch.Generator().manual_seed(5))


def metrics_of(folder):
    return json.loads((Path(folder) / "metrics.json").read_text())


def evaluate(*words, output="found"):
    assert main(["evaluate", *words, f"paths.output_dir={output}"]) == 0
    return metrics_of(output)


def predict(*words):
    assert main(["predict", *words, "output=out/found.csv", "num_workers=0"]) == 0
    with open("out/found.csv", newline="") as file:
        return list(csv.DictReader(file))


def near(accuracies):
    """Of one answer, or of each of a student's."""
    nested = any(isinstance(value, dict) for value in accuracies.values())
    return {k: near(v) for k, v in accuracies.items()} if nested else pytest.approx(accuracies, abs=1e-6)


@pytest.fixture
def original(tmp_path):
    """The override that gives the digits a published order other than that of their classes."""
    (tmp_path / "order.txt").write_text("\n".join(map(str, ORIGINAL)))
    return f"data.class_order={tmp_path / 'order.txt'}"


@pytest.fixture
def digits(tmp_path):
    """Twelve test digits as files, in folders of folders."""
    source = read_digits(DataRequest(tmp_path)).test
    for i in range(12):
        path = tmp_path / "digits" / str(i % 3) / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        source[i * 40].save(path)
    return tmp_path / "digits"


@pytest.mark.parametrize(
    ("stage", "part", "words"),
    [
        ("student", "student", []),
        ("student", "student_ema", ["ema=true"]),
        ("teacher", "teacher", []),
        ("baseline", "baseline", []),
    ],
)
def test_a_stage_is_found_as_good_as_its_run_found_it(stage, part, words, trained, tmp_path, capfd):
    found, expected = evaluate(f"checkpoint={trained}", f"stage={stage}", *words), metrics_of(trained)
    kind = "teacher" if stage == "teacher" else "student"
    assert found[kind] == near(expected[part])
    assert (found["counts"], found["groups"]) == (expected["counts"], expected["groups"])
    assert found["checkpoints"] == {kind: str(trained / stage / "last.ckpt")}
    assert {"metrics.json", "per_class.csv", "per_class.png", "test_hits.npz"} == {
        path.name for path in (tmp_path / "found").iterdir()
    }
    ours, theirs = Hits.load(tmp_path / "found" / "test_hits.npz"), Hits.load(trained / "test_hits.npz")
    assert ours.key == theirs.key
    for series, right in ours.right.items():
        assert right.tolist() == theirs.right[series.replace(kind, part)].tolist()
    assert "top5" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("stage", "part", "words"),
    [("teacher", "teacher", []), ("student", "student", []), ("student", "student_ema", ["ema=true"])],
)
def test_a_stage_trained_in_half_precision_is_found_as_its_run_found_it(stage, part, words, trained_in_bf16):
    found, expected = evaluate(f"checkpoint={trained_in_bf16}", f"stage={stage}", *words), metrics_of(trained_in_bf16)
    assert found["teacher" if stage == "teacher" else "student"] == expected[part]  # to the last digit
    assert stage == "teacher" or {"mean_prob", "fused", "group_fused"} < set(expected[part])


def test_a_stage_of_the_users_own_is_found_by_its_name(trained, tmp_path):
    shutil.copytree(trained / "student", tmp_path / "own" / "second")
    assert evaluate("checkpoint=own", "stage=second")["student"] == near(metrics_of(trained)["student"])


def test_a_file_is_measured_on_the_test_images_of_a_recipe_whatever_the_batch(trained):
    found = evaluate(f"checkpoint={trained / 'student' / 'last.ckpt'}", "experiment=digits", "batch_size=17")
    assert found["student"] == near(metrics_of(trained)["student"])


def test_images_that_were_moved_are_found_where_one_says(tiny_vit, image_folder, tmp_path):
    data = ["data=folder", f"data.root={image_folder}", "data.max_count=null", "data.imbalance_factor=null"]
    assert main(["train", *tiny_vit, *data, "paths.output_dir=run"]) == 0
    shutil.move(image_folder, tmp_path / "moved")
    assert main(["evaluate", "checkpoint=run", "paths.output_dir=found"]) == 2
    found = evaluate("checkpoint=run", f"data_root={tmp_path / 'moved'}")
    assert found["student"]["cls"] == pytest.approx(metrics_of("run")["student"]["cls"])


def test_fusions_are_fitted_on_the_images_that_training_held_out(tiny, held_out_teacher):
    assert main(["train", *tiny, held_out_teacher, "data.val_fraction=0.3", "paths.output_dir=run"]) == 0
    found, expected = evaluate("checkpoint=run")["student"], metrics_of("run")["student"]
    assert set(found) == set(expected) > {"cls", "dist", "avg", "mean_prob"}
    assert found == near(expected)
    other = evaluate("checkpoint=run", "data=digits", "data.val_fraction=0.3", output="other")
    assert set(other["student"]) == {"cls", "dist", "avg", "mean_prob"}  # nobody held these out


def test_evaluations_of_one_second_lie_side_by_side(tmp_path):
    folder = run_folder.RunFolder(tmp_path / "outputs" / "12-30-00-evaluate")
    names = [folder.claim().path.name for _ in range(3)]
    assert names == ["12-30-00-evaluate", "12-30-00-evaluate-2", "12-30-00-evaluate-3"]
    assert all((folder.path.parent / name).is_dir() for name in names)


def test_a_picture_that_cannot_be_drawn_costs_no_numbers(trained, monkeypatch, caplog):
    def fails(*_, **__):
        raise OSError("no font")

    monkeypatch.setattr(run_folder, "per_class_accuracy", fails)
    assert set(evaluate(f"checkpoint={trained}", "stage=teacher")) > {"teacher", "groups"}
    assert Path("found/per_class.csv").exists()
    assert caplog.messages[-1] == "The picture per_class.png could not be drawn, and the run goes on without: no font"


def test_a_file_of_the_authors_is_loaded_in_python_by_its_recipe(trained):
    path = authors_student(trained, "theirs.pth")
    images = torch.rand(3, 3, 16, 16)
    expected = deitlt.load(trained).predict(images).probabilities["avg"]
    found = deitlt.load(path, *DIGITS)
    torch.testing.assert_close(found.predict(images).probabilities["avg"], expected)
    assert found.classes == [str(digit) for digit in range(10)]
    with pytest.raises(CheckpointError, match="type experiment=NAME"):
        deitlt.load(path)


def test_a_student_and_a_teacher_of_the_authors_are_as_good_as_ours(trained):
    path, expected = authors_student(trained, "theirs.pth"), metrics_of(trained)
    found = evaluate(f"checkpoint={path}", *DIGITS)
    assert found["student"] == near(expected["student"])
    assert (found["counts"], found["groups"]) == (expected["counts"], expected["groups"])
    assert found["protocol"] == ""  # nobody knows how its epoch was chosen
    averaged = evaluate(f"checkpoint={path}", *DIGITS, "ema=true", output="averaged")
    assert averaged["student"] == near(expected["student_ema"])
    teacher = evaluate(f"checkpoint={ldam_teacher(trained, 'theirs.pth.tar')}", *DIGITS, output="teacher")
    assert teacher["teacher"] == near(expected["teacher"])


def test_pacos_teacher_in_the_original_order_is_as_good_as_in_the_sorted_one(original):
    plain, permuted = paco_teacher("sorted.pth.tar"), paco_teacher("original.pth.tar", ORIGINAL)
    words = [*DIGITS, original]
    expected = evaluate(f"checkpoint={plain}", *words, "label_order=sorted", output="a")["teacher"]
    assert evaluate(f"checkpoint={permuted}", *words, output="b")["teacher"] == expected
    assert evaluate(f"checkpoint={permuted}", *words, "label_order=original", output="c")["teacher"] == expected
    assert evaluate(f"checkpoint={permuted}", *words, "label_order=sorted", output="d")["teacher"] != expected


def test_our_own_teacher_in_another_order_is_told_by_its_names(trained):
    path = permuted_teacher(trained, "permuted.ckpt", ORIGINAL)
    found, expected = evaluate(f"checkpoint={path}"), metrics_of(trained)
    assert found["teacher"] == near(expected["teacher"])
    assert all(found[key] == expected[key] for key in ("class_names", "counts", "groups"))


def test_a_checkpoint_whose_data_would_call_the_system_calls_nothing(trained, tmp_path):
    content = read_checkpoint(trained / "student" / "last.ckpt")
    content["deitlt"]["data"] |= {"_target_": "os.system", "command": f"touch {tmp_path}/ran"}
    torch.save(content, tmp_path / "evil.ckpt")
    assert set(evaluate("checkpoint=evil.ckpt")["student"]) > {"cls"}
    assert not (tmp_path / "ran").exists()


def test_each_image_gets_a_row_with_what_each_token_predicts(trained, digits, capfd):
    rows = predict(f"checkpoint={trained}", f"images={digits}")
    tokens, places = ("cls", "dist", "avg"), (1, 2, 3)
    columns = [f"{token}_{place}{what}" for token in tokens for place in places for what in ("", "_probability")]
    assert list(rows[0]) == ["file", "class", "probability", *columns]
    assert [row["file"] for row in rows] == [str(path) for path in sorted(digits.rglob("*.png"))]
    assert "12 images -> out/found.csv" in capfd.readouterr().out
    for row in rows:
        assert (row["class"], row["probability"]) == (row["avg_1"], row["avg_1_probability"])
        for token in tokens:
            shares = [float(row[f"{token}_{place}_probability"]) for place in places]
            assert shares == sorted(shares, reverse=True)
            assert len({row[f"{token}_{place}"] for place in places} & set("0123456789")) == 3
    assert len({row["class"] for row in rows}) > 1
    assert predict(f"checkpoint={trained}", f"images={digits}", "batch_size=5") == rows
    assert predict(f"checkpoint={trained}", f"images={sorted(digits.rglob('*.png'))[3]}") == [rows[3]]


def test_a_teacher_and_a_plain_vit_have_one_answer_of_no_more_classes_than_there_are(trained, digits):
    for stage in ("teacher", "baseline"):
        (row, *_) = predict(f"checkpoint={trained}", f"images={digits}", f"stage={stage}", "top=1")
        assert list(row) == ["file", "class", "probability", "cls_1", "cls_1_probability"]
    (row, *_) = predict(f"checkpoint={trained}", f"images={digits}", "stage=teacher", "top=99")
    assert "cls_10" in row
    assert "cls_11" not in row


def test_broken_images_are_left_out_and_counted_when_asked_and_grey_ones_are_read(trained, digits, capfd):
    (digits / "0" / "00.png").write_bytes(b"no image")
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(pixels).save(digits / "grey.png")
    Image.fromarray(np.stack([pixels] * 4, axis=-1), "RGBA").save(digits / "transparent.png")
    assert len(predict(f"checkpoint={trained}", f"images={digits}", "on_broken=skip")) == 13
    assert "1 broken file" in capfd.readouterr().out


def test_predictions_of_external_files_name_true_classes(trained, digits, original):
    ours = predict(f"checkpoint={trained}", f"images={digits}")
    assert predict(f"checkpoint={authors_student(trained, 'theirs.pth')}", f"images={digits}", *DIGITS) == ours
    teacher = paco_teacher("original.pth.tar", ORIGINAL)
    found = predict(f"checkpoint={teacher}", f"images={digits}", *DIGITS, original)
    transform = evaluation_transform(16, get_dataset("digits").normalisation)
    images = torch.stack([transform(Image.open(row["file"])) for row in found])
    with torch.no_grad():
        expected = linear_teacher().eval()(images).argmax(dim=1).tolist()
    assert [row["class"] for row in found] == [str(ORIGINAL[c]) for c in expected]


@torch.no_grad()
def test_a_run_is_exported_to_every_format_and_read_again(trained, tmp_path, capfd):
    words = ["formats=[safetensors,onnx,torch_export,authors]", "output=out/files"]
    assert main(["export", f"checkpoint={trained}", *words]) == 0
    shown = capfd.readouterr()
    names = ["model.onnx", "model.pt2", "model.pth", "model.safetensors"]
    assert [line.split(": ")[0] for line in shown.out.splitlines()] == [f"out/files/{name}" for name in names]
    assert shown.err == ""
    assert sorted(path.name for path in (tmp_path / "out" / "files").iterdir()) == names
    spec, ours = read_spec(trained / "student" / "last.ckpt"), load_student(trained)
    expected = ours((PIXELS - torch.tensor(spec.mean).view(3, 1, 1)) / torch.tensor(spec.std).view(3, 1, 1))
    found = torch.export.load("out/files/model.pt2").module()(PIXELS)
    torch.testing.assert_close(found["avg"], (expected.cls + expected.dist) / 2, atol=1e-4, rtol=1e-4)
    again = load_student(tmp_path / "out" / "files" / "model.pth")
    assert all(torch.equal(a, b) for a, b in zip(ours(PIXELS), again(PIXELS), strict=True))
    words = ["checkpoint=out/files/model.pth", "formats=[safetensors]", "output=again", "experiment=digits"]
    assert main(["export", *words]) == 0
    first, second = load_file("out/files/model.safetensors"), load_file("again/model.safetensors")
    assert all(torch.equal(second[name], weight) for name, weight in first.items())


@torch.no_grad()
def test_the_moving_average_and_a_teacher_are_exported_if_they_are_asked_for(trained):
    words = [f"checkpoint={trained}", "formats=[safetensors]"]
    assert main(["export", *words, "ema=true", "output=average"]) == 0
    found, expected = load_file("average/model.safetensors"), load_student(trained, ema=True).vit.state_dict()
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    assert not torch.equal(found["head.weight"], load_student(trained).vit.head.weight)
    assert main(["export", *words, "stage=teacher", "output=teacher"]) == 0
    found, expected = load_file("teacher/model.safetensors"), load_teacher(trained).state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    assert read_spec(trained / "teacher" / "last.ckpt").logit_scale == 30


def test_classes_are_named_in_the_order_of_an_exported_networks_logits(trained):
    spec = read_spec(trained / "student" / "last.ckpt")
    order = torch.tensor([3, 1, 4, 0, 2, 9, 8, 7, 6, 5])  # class c is the network's column order[c]
    network = TrainedNetwork(trained, spec, torch.nn.Identity(), torch.device("cpu"), order)
    for row in torch.rand(4, 10):
        assert network.own_spec.class_names[row.argmax()] == spec.class_names[row.index_select(0, order).argmax()]
    assert replace(network, class_order=None).own_spec is spec


# What was typed -> what the sentence says: the value, and what to type.
WRONG = {
    "evaluate checkpoint={run} data=folder data.root={images}": ("ant, bee, cat", "knows 0, 1, 2, ... (10)"),
    "evaluate checkpoint={run} data=digit": ("did you mean 'digits'",),
    "evaluate checkpoint={run} stage=teacher ema=true": ("holds a teacher", "type ema=false"),
    "evaluate checkpoint={run} stage=baseline ema=true": ("holds no moving average; type ema=false",),
    "evaluate checkpoint={run} data_root=here": ("data_root=here, but the data digits have no folder; leave it out",),
    "evaluate checkpoint={run} stage=studnet": ("has no studnet, but ", "stage=student"),
    "evaluate checkpoint={images}": ("images holds no checkpoint",),
    "evaluate checkpoint=taken": ("taken/model.safetensors is no file of safetensors, or damaged",),
    "evaluate checkpoint=changed.ckpt": ("changed.ckpt does not hold the weights",),
    "evaluate checkpoint=theirs.pth": ("theirs.pth was not written by deitlt and does not say", "type experiment=NAME"),
    "evaluate checkpoint=theirs.pth experiment=folder_cpu data_root={images} num_workers=0": (
        "theirs.pth knows 10 classes, but the data have 3; type experiment=NAME",
    ),
    "evaluate checkpoint=theirs.pth experiment=folder_cpu": ("has no data.root; type data_root=FOLDER",),
    "evaluate checkpoint=theirs.pth experiment=digit": ("did you mean 'digits'",),
    "evaluate checkpoint=theirs.pth experiment=digits data=digits label_order=sortd": ("label_order=sortd",),
    "predict checkpoint=theirs.pth images=.": ("type experiment=NAME",),
    "predict checkpoint={run} images=taken": ("images=taken holds no image",),
    "predict checkpoint={run} images=gone": ("images=gone does not exist; type images=FOLDER",),
    "predict checkpoint={run} images=. output=a.txt": ("output=a.txt is no CSV file; type output=a.csv",),
    "predict checkpoint={run} images=broken": ("broken.png cannot be decoded", "on_broken=skip"),
    "export": ("type checkpoint=",),
    "export checkpoint=gone": ("There is no checkpoint gone",),
    "export checkpoint={run} formats=[onxx]": ("formats has 'onxx', which is no choice", "did you mean 'onnx'"),
    "export checkpoint={run} formats=onnx": ("formats=onnx is not a list", "type formats=["),
    "export checkpoint={run} formats=[]": ("formats=[] names no format", "type formats=[safetensors"),
    "export checkpoint={run} stage=teacher formats=[authors]": ("formats=[authors] is a student's", "stage=student"),
    "export checkpoint={run} stage=teacher ema=true": ("ema=true", "type ema=false"),
    "export checkpoint={run} output=taken": ("model.safetensors exists already", "type output=FOLDER"),
    "export checkpoint={run} output=taken/model.safetensors": ("is a file; type output=FOLDER",),
    "export checkpoint={run} outputs=x": ("outputs is no key", "did you mean 'output'"),
}


@pytest.fixture
def wrong_files(trained, tmp_path):
    """What `WRONG` names."""
    for name in ("taken", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "taken" / "model.safetensors").write_bytes(b"mine")
    (tmp_path / "broken" / "broken.png").write_bytes(b"no image")
    authors_student(trained, "theirs.pth")
    content = read_checkpoint(trained / "student" / "last.ckpt")
    content["deitlt"]["model"]["depth"] = 2
    torch.save(content, "changed.ckpt")


@pytest.mark.parametrize(("words", "said"), WRONG.items(), ids=WRONG)
def test_what_cannot_be_is_answered_with_one_sentence(words, said, complain, trained, image_folder, wrong_files):
    typed = words.replace("{run}", str(trained)).replace("{images}", str(image_folder)).split()
    sentence = complain(*typed, output="run" if typed[0] == "evaluate" else None)
    for part in said:
        assert part in sentence


def test_an_evaluation_overwrites_none(complain, trained):
    evaluate(f"checkpoint={trained}", "stage=teacher")
    assert "found holds a finished run" in complain("evaluate", f"checkpoint={trained}", output="found")


def test_a_folder_for_the_hub_is_used_as_its_run_is(trained, tmp_path, monkeypatch, capfd):
    """By its path and, fetched, by its name on the Hub."""
    export = ("export", f"checkpoint={trained}", "formats=[hub]", "license=cc-by-4.0", "output=hub")
    assert main([*export, "ema=true"]) == 0
    monkeypatch.setattr("deitlt.checkpoints.io.fetch", lambda name: Path("hub/model.safetensors"))
    name = "checkpoint=hf://me/mine"
    assert evaluate(name)["student"] == near(metrics_of(trained)["student_ema"])
    ours, theirs = deitlt.load(trained, ema=True), deitlt.load("hub")
    found, expected = theirs.predict(PIXELS).probabilities, ours.predict(PIXELS).probabilities
    assert all(torch.equal(found[token], expected[token]) for token in ("cls", "dist", "avg"))
    assert (theirs.classes, theirs.trained.spec.normalisation) == (ours.classes, ours.trained.spec.normalisation)
    assert deitlt.load("hf://me/mine").classes == ours.classes
    assert main(["export", name, "formats=[safetensors]", "output=again"]) == 0
    assert load_file("again/model.safetensors").keys() == load_file("hub/model.safetensors").keys()
    capfd.readouterr()
    assert main(["analyze", name, "parts=[rank]", "images=5"]) == 2
    assert "hf://me/mine has no folder of yours; type folder=FOLDER beside it." in capfd.readouterr().err
    assert main(["analyze", name, "parts=[rank]", "images=5", "folder=analysis"]) == 0
    assert main(["evaluate", name, "ema=true"]) == 2
    assert "holds no moving average" in capfd.readouterr().err


def test_a_model_card_says_how_good_the_network_is_and_how_it_came_about(trained, tmp_path, capfd):
    words = ("export", "formats=[hub]", f"checkpoint={trained}")
    assert main([*words, "license=cc-by-4.0", "output=student"]) == 0
    assert "licence" not in capfd.readouterr().out
    card = Path("student/README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert (front["license"], front["library_name"]) == ("cc-by-4.0", "timm")
    avg = metrics_of(trained)["student"]["avg"]
    assert f"| student AVG | {avg['all']:.1f} | {avg['head']:.1f} | {avg['mid']:.1f} | {avg['tail']:.1f} |" in card
    assert "plain ViT" not in card
    assert "deitlt train experiment=digits " in card
    assert "- data.max_count=20, the recipe has 120" in card
    assert "the terms of the images that it was trained on" in card
    assert 'timm.create_model("hf-hub:USER/NAME", pretrained=True)' in card
    assert str(trained.parent) not in card
    assert main([*words, "stage=teacher", "output=teacher"]) == 0
    said = capfd.readouterr().out.splitlines()
    assert said[0] == "timm has no cifar_resnet8: teacher can be read by deitlt.load alone"
    assert said[-1].startswith("teacher/README.md says no licence; put it there, or type license=NAME")
    card = Path("teacher/README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["license"] == "unknown"
    assert "timm has no cifar_resnet8, so deitlt alone reads these files." in card
    shutil.copy(trained / "student" / "last.ckpt", "alone.ckpt")
    assert main(["export", "formats=[hub]", "checkpoint=alone.ckpt", "output=alone"]) == 0
    assert "Not known: the weights were exported without the run that measured" in Path("alone/README.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["push=me/mine"], "push=me/mine is of a folder for the Hub; type formats=[hub] beside it."),
        (["license=mit"], "license=mit is of a folder for the Hub; type formats=[hub] beside it."),
        (["formats=[hub]", "push=mine"], "push=mine is no name on the Hub; type push=USER/NAME."),
        (["checkpoint=hf://mine"], "hf://mine names no model on the Hub; type hf://USER/NAME"),
    ],
)
def test_words_of_the_hub_that_cannot_work_are_one_sentence(words, said, trained, complain):
    assert said in complain("export", f"checkpoint={trained}", *words, output=None)


def test_a_folder_that_could_not_be_pushed_stays(trained, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert main(["export", f"checkpoint={trained}", "formats=[hub]", "output=hub", "push=me/mine"]) == 2
    said = "hub is written, but was not pushed (no token of the Hub is known here); type hf auth login, or HF_TOKEN="
    assert said in capfd.readouterr().err
    assert sorted(path.name for path in Path("hub").iterdir()) == ["README.md", "config.json", "model.safetensors"]
