import base64
import io
import xml.etree.ElementTree as ET

import numpy as np
from PIL import Image

from deitlt.reports.page_figures import analysis_charts, chart, class_chart, embed, pictures, training_charts


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


def test_one_experiment_shows_its_tokens(make_run, student_analysis):
    analyses = {"student": student_analysis(), "baseline": student_analysis(shift=1.0)}
    charts = analysis_charts({"digits": [make_run(analyses=analyses)]})
    assert [chart.title for chart in charts] == [
        "Mean attention distance, pixels, by block",
        "Components for 99 % of the variance, by block",
        "Effective rank, by block",
        "1 - cosine of CLS and DIST, by block",
    ]
    assert "DIST: 2.5 at block 1, 2.5 at block 4." in alt(charts[0])
    assert "plain ViT, CLS: 6 at block 1" in alt(charts[0])
    assert "DIST: 9 at block 1, 12 at block 4." in alt(charts[1])


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
    assert charts[0].title == "Patches: mean attention distance, pixels, by block"
    assert {"with SAM", "without"} <= words(charts[0])
    assert alt(charts[-1]).endswith("without: 11 at epoch 1, 14 at epoch 4.")


def test_what_was_not_measured_is_not_drawn(make_run):
    run = make_run(analyses={"student": {"kind": "student", "epoch": 4}})
    assert analysis_charts({"digits": [run]}) == []


TEST, TRAIN = {"images": 500, "split": "test"}, {"images": 256, "split": "train"}


def test_charts_say_where_runs_were_measured_on_different_images(make_run, student_analysis):
    first, second = student_analysis() | TEST, student_analysis() | TRAIN
    runs = [make_run("a", analyses={"student": first}, history=[student_analysis(i) | TRAIN for i in (1, 4)])]
    runs.append(make_run("b", analyses={"student": second}, history=[student_analysis(i) | TRAIN for i in (1, 4)]))
    said = "Not measured on the same images: with SAM on 500 test images; without on 256 training images."
    *blocks, epochs = analysis_charts({"with SAM": runs[:1], "without": runs[1:]})
    assert [chart.note for chart in blocks] == [said] * len(blocks)
    assert epochs.note == "Measured while training, on 256 training images."  # both were measured on the same
    *blocks, _ = analysis_charts({"a": runs[:1], "b": runs[:1]})
    assert {chart.note for chart in blocks} == {""}


def test_a_chart_says_where_the_plain_vit_was_measured_on_other_images(make_run, student_analysis):
    run = make_run(analyses={"student": student_analysis() | TEST, "baseline": student_analysis() | TRAIN})
    distance, *_, cosine = analysis_charts({"digits": [run]})
    assert distance.note.endswith("the student on 500 test images; the plain ViT on 256 training images.")
    assert cosine.note == ""


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


def titles(run):
    return {stage: [chart.title for chart in charts] for stage, charts in training_charts(run).items()}


def test_each_stage_has_its_curves(make_run):
    found = titles(make_run())
    assert found["Student"] == ["Training loss", "Validation accuracy, %", "Learning rate (SAM's rho: 0.1 throughout)"]
    assert set(found) == {"Teacher", "Student", "Plain ViT"}


def test_tokens_have_lines_of_their_own_and_drw_is_marked(make_run):
    loss, accuracy, _ = training_charts(make_run())["Student"]
    assert {"CLS", "DIST", "DRW"} <= words(loss)
    assert "DIST: 10 at epoch 1, 50 at epoch 2." in alt(accuracy)


def test_a_rho_that_changes_is_drawn(make_run):
    run = make_run()
    run.curves["teacher"]["train/rho"][-1] = (3.0, 0.5)
    assert titles(run)["Teacher"][-2:] == ["Learning rate", "SAM's rho"]


def picture(path, size, noisy=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3)) if noisy else np.zeros((*size[::-1], 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def test_a_large_one_is_drawn_smaller(tmp_path):
    file = picture(tmp_path / "a.png", (2000, 600), noisy=True)
    found = embed(file, "caption", "alt")
    kind, _, data = found.source.partition(",")
    assert kind == "data:image/webp;base64"
    assert len(data) < file.stat().st_size / 3
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (found.width, found.height) == (1400, 420)


def test_what_is_no_picture_is_left_out(tmp_path):
    (tmp_path / "views.png").write_text("<script>alert(1)</script>")
    assert pictures(tmp_path) == []


def test_views_and_the_last_rollouts_of_a_run_are_found(tmp_path):
    for name in ("views.png", "student/views.png", "baseline/views.png", "student/analysis/rank.png"):
        picture(tmp_path / name, (8, 8))
    picture(tmp_path / "student/analysis/epoch_0001_rollout.png", (8, 8))
    picture(tmp_path / "student/analysis/epoch_0010_rollout.png", (16, 8))
    views, rollout = pictures(tmp_path)
    assert views.caption.startswith("Training images, the student's view of each")
    assert rollout.width == 16
    assert "the student's tokens" in rollout.caption
    assert "white is as much" in rollout.caption
    assert "1, as much as by chance" in rollout.alt


def test_a_student_without_a_teacher_has_no_view_for_one(tmp_path):
    picture(tmp_path / "student/views.png", (8, 8))
    (taught,), (alone,) = pictures(tmp_path), pictures(tmp_path, taught=False)
    assert "the teacher labels" in taught.caption
    assert "teacher" not in alone.caption + alone.alt
