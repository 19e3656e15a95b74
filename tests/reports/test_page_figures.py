import base64
import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from deitlt.reports.page_figures import (
    analysis_charts,
    chart,
    class_chart,
    embed,
    group_chart,
    named_charts,
    pictures,
    training_charts,
    unlike,
)
from deitlt.reports.runs import Sample


def alt(drawn):
    """What a chart says to who cannot see it."""
    return ET.fromstring(str(drawn.svg)).get("aria-label")


def words(drawn):
    return {text.text for text in ET.fromstring(str(drawn.svg)).iter("{http://www.w3.org/2000/svg}text")}


def test_the_words_say_the_numbers_and_a_long_line_is_thinned():
    lines = {"CLS": [(float(i), 2.24 - i / 10000) for i in range(5000)], "DIST": [(4.0, 1.0)]}
    drawn = chart("loss", lines, "epoch")
    assert drawn.title == "Loss"
    assert alt(drawn) == "loss. CLS: 2.24 at epoch 0, 1.74 at epoch 4999. DIST: 1 at epoch 4."
    assert len(drawn.svg) < 20_000


def test_accuracy_by_class_is_the_mean_over_seeds(make_run):
    runs = [make_run("0"), make_run("1")]
    runs[1].recalls["CLS"][4] = 37.2
    assert "CLS 78.0 %" in alt(class_chart(runs))
    assert {"a (1,200)", "e (1)", "plain ViT", "tail"} <= words(class_chart(runs))
    runs[0].recalls.clear()
    assert class_chart(runs[:1]) is None


def test_groups_show_one_experiments_answers_or_the_mean_of_tokens_of_several(make_run):
    one = group_chart({"digits": [make_run("0"), make_run("1")]})
    assert "tail: teacher 90.0, CLS 27.2, DIST 69.3, AVG 48.9, plain ViT 27.6." in alt(one)
    assert {"teacher", "DIST", "69.3", "tail"} <= words(one)
    other = make_run("2")
    del other.metrics["student"]["avg"]
    assert "tail: digits 48.9, vit 27.2." in alt(group_chart({"digits": [make_run("3")], "vit": [other]}))
    other.metrics.clear()
    assert group_chart({"nothing": [other]}) is None


def test_figures_have_names_for_files_one_for_each(make_run, student_analysis):
    runs = [make_run(str(i), analyses={"student": student_analysis()}) for i in range(2)]
    found = named_charts({"DeiT-LT, ours": runs[:1], "method=vit": runs[1:]})
    assert {"groups", "deit-lt-ours-classes", "method-vit-classes", "method-vit-student-training-loss"} <= set(found)
    assert all(name.strip("abcdefghijklmnopqrstuvwxyz0123456789-.") == "" for name in found)


def test_one_experiment_shows_its_tokens(make_run, student_analysis):
    analyses = {"student": student_analysis(), "baseline": student_analysis(shift=1.0)}
    charts = analysis_charts({"digits": [make_run(analyses=analyses)]})
    assert [chart.title for chart in charts] == [
        "Mean attention distance, pixels, by block",
        "Components for 99 % of the variance, by block",
        "Effective rank, by block",
        "1 - cosine of CLS and DIST, by block",
    ]
    assert {"CLS", "DIST", "patches", "plain ViT, CLS"} <= words(charts[0])
    assert "DIST: 2.5 at block 1" in alt(charts[0])
    assert "DIST: 9 at block 1, 12 at block 4." in alt(charts[1])
    assert analysis_charts({"digits": [make_run("nothing", analyses={"student": {"epoch": 4}})]}) == []


def test_seeds_are_means_of_networks_of_one_depth(make_run, student_analysis):
    runs = [make_run("0", analyses={"student": student_analysis()})]
    runs.append(make_run("1", analyses={"student": student_analysis(shift=2.0)}))
    assert "DIST: 3.5 at block 1" in alt(analysis_charts({"digits": runs})[0])
    deep = student_analysis()
    deep["attention_distance"]["dist"] = [[9.0]] * 5
    assert "DIST" not in alt(analysis_charts({"digits": [runs[0], make_run("2", analyses={"student": deep})]})[0])


def test_experiments_stand_beside_each_other(make_run, student_analysis):
    history = [student_analysis(1), student_analysis(4)]
    first, second = (make_run(name, analyses={"student": student_analysis()}, history=history) for name in "ab")
    charts = analysis_charts({"with SAM": [first], "without": [second]})
    (patches,) = (c for c in charts if c.title == "Patches: mean attention distance, pixels, by block")
    assert {"with SAM", "without"} <= words(patches)
    assert alt(charts[-1]).endswith("without: 11 at epoch 1, 14 at epoch 4.")


TEST, TRAIN = {"images": 500, "split": "test"}, {"images": 256, "split": "train"}


def test_charts_say_where_runs_were_measured_on_different_images(make_run, student_analysis):
    history = [student_analysis(i) | TRAIN for i in (1, 4)]
    first, second = (
        make_run(name, analyses={"student": student_analysis() | sample}, history=history)
        for name, sample in (("a", TEST), ("b", TRAIN))
    )
    said = "Not measured on the same images: with SAM on 500 test images; without on 256 training images."
    *blocks, epochs = analysis_charts({"with SAM": [first], "without": [second]})
    assert {chart.note for chart in blocks} == {said}
    assert epochs.note == "Measured while training, on 256 training images."  # both were measured on the same
    *blocks, _ = analysis_charts({"a": [first], "b": [first]})
    assert {chart.note for chart in blocks} == {""}
    alone = make_run("c", analyses={"student": student_analysis() | TEST, "baseline": student_analysis() | TRAIN})
    distance, *_, cosine = analysis_charts({"digits": [alone]})
    assert distance.note.endswith("plain ViT, CLS on 256 training images; the others on 500 test images.")
    assert cosine.note == ""


def test_different_images_are_told():
    test, train = Sample("test", 10000), Sample("train", 256)
    assert unlike({"a": [test, test], "b": [test], "c": []}) == ""
    said = "Not measured on the same images: b on 256 training images; the others on 10,000 test images."
    assert unlike({"a": [test], "b": [train], "c": [test]}) == said
    assert unlike({"a": [test, train]}).endswith("a on 10,000 test images; a on 256 training images.")


def test_a_teachers_rank_is_drawn(make_run):
    ranks = {"with SAM": 20, "without": 30}
    runs = {
        name: [make_run(name, analyses={"teacher": {"epoch": 9, "rank": {"features": {"components": rank}}} | TEST})]
        for name, rank in ranks.items()
    }
    (alone,) = analysis_charts({"digits": runs["with SAM"]})
    assert alt(alone) == "Teacher: rank of its features. components for 99 % of the variance: 20 at epoch 9."
    (beside,) = analysis_charts(runs)
    assert alt(beside).endswith("with SAM: 20 at epoch 9. without: 30 at epoch 9.")


def test_each_stage_has_its_curves(make_run):
    run = make_run()
    run.curves["teacher"]["train/rho"][-1] = (3.0, 0.5)  # it changes, so it is drawn
    titles = {stage: [chart.title for chart in charts] for stage, charts in training_charts(run).items()}
    student = ["Training loss", "Validation accuracy, %", "Learning rate (SAM's rho: 0.1 throughout)"]
    teacher = [*student[:2], "Learning rate", "SAM's rho"]
    assert titles == {"Teacher": teacher, "Student": student, "Plain ViT": student}
    loss, accuracy, _ = training_charts(run)["Student"]
    assert {"CLS", "DIST", "DRW"} <= words(loss)
    assert "DIST: 10 at epoch 1, 50 at epoch 2." in alt(accuracy)


def picture(path, size, noisy=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3)) if noisy else np.zeros((*size[::-1], 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def test_a_large_picture_is_drawn_smaller(tmp_path):
    file = picture(tmp_path / "a.png", (2000, 600), noisy=True)
    found = embed(file, "caption", "alt")
    kind, _, data = found.source.partition(",")
    assert kind == "data:image/webp;base64"
    assert len(data) < file.stat().st_size / 3
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (found.width, found.height) == (1400, 420)


def test_a_runs_images_and_rollouts_are_found_and_what_is_no_picture_is_left_out(make_run):
    run = make_run()
    for name in ("student/views.png", "baseline/views.png", "student/analysis/rank.png"):
        picture(run.folder / name, (8, 8))
    (run.folder / "teacher" / "views.png").write_text("<script>alert(1)</script>")
    picture(run.folder / "student/analysis/rollout.png", (16, 8))
    images, rollout = pictures(run)
    assert images.caption == "Training images, each as the student sees it, and as its teacher labels it"
    assert rollout.width == 16
    assert "the student's tokens" in rollout.caption
    assert "white is as much" in rollout.caption
    assert "1, as much as by chance" in rollout.alt
    del run.metrics["student"]["dist"]
    assert "teacher" not in pictures(run)[0].alt
    (run.folder / "student" / "views.png").unlink()
    assert "the plain ViT sees it" in pictures(run)[0].caption


@pytest.mark.parametrize("group", ["all", "tail"])
def test_accuracies_that_were_watched_once_are_no_curve(make_run, group):
    run = make_run()
    run.curves["student"] = {f"test/cls/{group}": [(4.0, 73.8)]}
    assert "Student" not in training_charts(run)
