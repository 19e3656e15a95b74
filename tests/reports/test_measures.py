import json

from deitlt.reports.evidence import read_evidence
from deitlt.reports.measures import is_out_of_distribution, samples_by_epoch, teacher_rank_by_epoch


def test_teachers_whose_views_nobody_wrote_down_are_not_compared(make_run, student_analysis):
    runs = [make_run(name, views=None, analyses={"student": student_analysis()}) for name in "ab"]
    assert [is_out_of_distribution(run) for run in runs] == [None, None]
    only_mixing = {**runs[0].stages["student"]["recipe"]["views"], "mixing": None}
    assert is_out_of_distribution(make_run("mixing", views=only_mixing)) is True


def _teacher(epoch, components):
    return {"epoch": epoch, "split": "train", "images": 256, "rank": {"features": {"components": components}}}


def test_a_teachers_rank_is_that_of_training_else_of_the_finished_teacher(make_run):
    run = make_run("a", analyses={"teacher": _teacher(9, 30)})
    assert teacher_rank_by_epoch(run, "components") == [(9.0, 30.0)]
    assert teacher_rank_by_epoch(run, "effective") == []
    (run.run.folder / "teacher" / "analysis" / "epoch_0004.json").write_text(json.dumps(_teacher(4, 20)))
    run = read_evidence(run.run, "digits")
    assert teacher_rank_by_epoch(run, "components") == [(4.0, 20.0)]
    assert samples_by_epoch(run, "teacher", "rank") == [("train", 256)]
    assert samples_by_epoch(run, "student", "rank") == []
