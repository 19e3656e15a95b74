from deitlt.reports.analysis_charts import analysis_charts
from deitlt.reports.group_tables import group_tables


def test_one_experiment_shows_its_tokens(make_run, student_analysis):
    analyses = {"student": student_analysis(), "baseline": student_analysis(shift=1.0)}
    charts = analysis_charts({"digits": [make_run(analyses=analyses)]})
    assert [chart.title.split(" by ")[0].split(",")[0] for chart in charts] == [
        "Mean attention distance",
        "Principal components for 99 % of the variance",
        "Effective rank of the features",
        "Distance of CLS and DIST (1 - cosine)",
    ]
    assert "DIST: 2.5 at block 1, 2.5 at block 4." in charts[0].alt
    assert "plain ViT, CLS: 6 at block 1" in charts[0].alt
    assert "DIST: 9 at block 1, 12 at block 4." in charts[1].alt


def test_seeds_are_means_of_networks_of_one_depth(make_run, student_analysis):
    runs = [make_run("0", analyses={"student": student_analysis()})]
    runs.append(make_run("1", analyses={"student": student_analysis(shift=2.0)}))
    assert "DIST: 3.5 at block 1" in analysis_charts({"digits": runs})[0].alt
    deep = student_analysis()
    deep["attention_distance"]["dist"] = [[9.0]] * 5
    assert "DIST" not in analysis_charts({"digits": [runs[0], make_run("2", analyses={"student": deep})]})[0].alt


def test_experiments_stand_beside_each_other(make_run, student_analysis):
    history = [student_analysis(1), student_analysis(4)]
    first, second = (make_run(name, analyses={"student": student_analysis()}, history=history) for name in "ab")
    charts = analysis_charts({"with SAM": [first], "without": [second]})
    assert charts[0].title == "patches: mean attention distance by block, pixels"
    assert [entry.name for entry in charts[0].legend] == ["with SAM", "without"]
    assert charts[-1].alt.endswith("without: 11 at epoch 1, 14 at epoch 4.")


def test_what_was_not_measured_is_not_drawn(make_run):
    run = make_run(analyses={"student": {"kind": "student", "epoch": 4}})
    assert analysis_charts({"digits": [run]}) == []
    assert group_tables([run]) == []


def test_tables_have_a_column_for_each_group(make_run, student_analysis):
    teacher = {"sharpness": {"all": {"eigenvalue": 1234.5, "trace": 0.01}}}
    tables = {
        t.title: t for t in group_tables([make_run(analyses={"student": student_analysis(), "teacher": teacher})])
    }
    assert tables["Calibration"].rows == {"CLS": ["8.0", "-", "-", "40.0"], "DIST": ["4.0", "-", "-", "-"]}
    assert tables["What the teacher says and what is true"].rows["mixed"] == ["60.0", "-", "-", "20.0"]
    assert "How often the teacher keeps its decision" not in tables
    assert tables["Which token wins"].rows == {"classes": ["1", "3", "1"]}
    assert tables["Sharpness"].rows["teacher eigenvalue"] == ["1,234", "-", "-", "-"]
    assert tables["How CLS and DIST differ"].rows["different decisions, %"] == ["14.0", "5.0", "-", "30.0"]


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
    assert alone.alt == "Teacher: rank of its features. components for 99 % of the variance: 20 at epoch 9."
    assert not alone.compares
    (beside,) = analysis_charts(runs)
    assert beside.alt.endswith("with SAM: 20 at epoch 9. without: 30 at epoch 9.")


def test_the_sharpness_table_counts_the_images_and_tells_a_traces_error_and_sign(make_run):
    whole = {"eigenvalue": 4.0, "trace": 30.0, "trace_error": 3.0, "images": 200}
    tail = {"eigenvalue": 9.0, "trace": -2.0, "trace_error": 0.0, "images": 25}
    runs = [make_run(name, analyses={"teacher": {"sharpness": {"all": whole, "tail": tail}}}) for name in "ab"]
    (table,) = group_tables(runs[:1])
    assert table.rows == {
        "teacher eigenvalue": ["4.0", "-", "-", "9.0"],
        "teacher trace": ["30.0", "-", "-", "-2.0"],
        "teacher trace, ±": ["3.0", "-", "-", "-"],
        "teacher images": ["200", "-", "-", "25"],
    }
    assert "a negative trace is a saddle's, so these weights are at no minimum" in table.note
    (table,) = group_tables(runs)
    assert table.rows["teacher trace, ±"][0] == "2.1"  # of the mean of two
