"""A second, narrower analysis beside the first: nothing of the same network is lost, and nothing of another kept."""

import csv
import json
import shutil

import pytest
import torch

from deitlt.cli import main
from deitlt.engine.analysis_joining import in_words, joined, read_earlier
from deitlt.reports.samples import Sample, samples_of

FIRST = ("images=30", "parts=[attention,rank,diversity,rollout]", "rollout.images=2")
SECOND = ("images=20", "parts=[rank]", "split=train")


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the trained run that may be written into."""
    return shutil.copytree(trained, tmp_path / "copied")


def analyze(run, *words):
    assert main(["analyze", f"checkpoint={run}", "stage=student", "num_workers=0", *words]) == 0
    return json.loads((run / "student" / "analysis.json").read_text())


def test_a_narrower_analysis_keeps_what_it_does_not_measure_again(run, capfd):
    first = analyze(run, *FIRST)
    rollout = (run / "student" / "analysis" / "rollout.png").read_bytes()
    capfd.readouterr()
    second = analyze(run, *SECOND)
    assert second["attention_distance"] == first["attention_distance"]
    assert second["diversity"] == first["diversity"]
    assert second["rank"] != first["rank"]
    assert samples_of(second) == {
        **dict.fromkeys(("attention_distance", "diversity"), Sample("test", 30)),
        "rank": Sample("train", 20),
    }
    assert (run / "student" / "analysis" / "rollout.png").read_bytes() == rollout
    said = "attention_distance (30 test images), diversity (30 test images)"
    assert f"student: kept from the analysis before, of the same weights and data: {said}\n" in capfd.readouterr().out
    with (run / "student" / "analysis.csv").open() as file:
        of = {(row["part"].partition("/")[0], row["split"], row["images"]) for row in csv.DictReader(file)}
    assert of == {("attention_distance", "test", "30"), ("diversity", "test", "30"), ("rank", "train", "20")}
    third = analyze(run, "images=25", "parts=[diversity]")
    assert samples_of(third) == {
        **{"attention_distance": Sample("test", 30), "rank": Sample("train", 20), "diversity": Sample("test", 25)}
    }


def test_of_other_weights_nothing_is_kept(run, capfd):
    analyze(run, *FIRST)
    content = torch.load(run / "student" / "last.ckpt", weights_only=True)
    content["state_dict"]["network.vit.head_dist.bias"][0] += 1
    torch.save(content, run / "student" / "last.ckpt")
    capfd.readouterr()
    found = analyze(run, *SECOND)
    assert not {"attention_distance", "diversity", "samples"} & set(found)
    assert {path.stem for path in (run / "student" / "analysis").glob("*.png")} == {"rank"}
    assert "student: replaces the analysis before, which was of other weights or data" in capfd.readouterr().out


@pytest.mark.parametrize("other", ["ema=true", "data=digits data.groups=shots"])
def test_nor_of_the_average_or_of_other_data(other, run, capfd):
    analyze(run, *FIRST)
    assert "diversity" not in analyze(run, *SECOND, *other.split())
    assert "student: replaces the analysis before" in capfd.readouterr().out


def test_a_part_that_was_asked_for_and_lost_is_not_taken_from_before():
    earlier = {"of": "a", "split": "test", "images": 30, "rank": {"width": 4}, "agreement": {"clean": {"all": 1.0}}}
    now = {"of": "a", "split": "test", "images": 20}
    assert joined(earlier, now, ["rank"]) == now | {"agreement": earlier["agreement"]}
    assert "kept" in in_words(earlier, now, joined(earlier, now, ["rank"]))
    assert in_words({}, now, joined({}, now, ["rank"])) == ""


def test_an_earlier_file_that_says_not_of_what_it_is_or_cannot_be_read_is_replaced(tmp_path):
    now = {"of": "a", "split": "test", "images": 20}
    assert joined({"rank": {"width": 4}}, now, []) == now
    assert in_words({"rank": {"width": 4}}, now, now).startswith("replaces the analysis before")
    (tmp_path / "analysis.json").write_text("{")
    assert read_earlier(tmp_path / "analysis.json") == read_earlier(tmp_path / "none.json") == {}
