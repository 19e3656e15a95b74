import pytest

from deitlt.reports import claim_numbers
from deitlt.reports.claims import FAILS, HOLDS, IN_PART, UNKNOWN, findings


def test_early_attention_is_that_of_the_patches_in_two_blocks(verdict, make_run, student_analysis):
    analyses = {"student": student_analysis(), "baseline": student_analysis(shift=3.0)}
    analyses["student"]["attention_distance"]["patches"][2] = [50.0, 50.0]  # the third block is not early
    said, numbers = verdict([make_run(analyses=analyses)], "local")
    assert said == HOLDS
    assert numbers == [
        "attention distance of the patches in the first two blocks: DeiT-LT 3.5 px, plain ViT 6.5 px, as claimed"
    ]


def test_early_attention_is_compared_with_a_vit_of_another_run(verdict, make_run, student_analysis):
    taught = make_run(analyses={"student": student_analysis(shift=1.0)})
    alone = make_run("vit", method="vit", analyses={"student": student_analysis()})
    del alone.metrics["student"]["dist"]
    said, numbers = verdict([taught, alone], "local")
    assert said == FAILS
    assert "runs beside runs: with a teacher 4.5 px, without 3.5 px, not as claimed" in numbers[0]


def test_the_teacher_errs_on_foreign_views(verdict, make_run, student_analysis):
    said, numbers = verdict([make_run(analyses={"student": student_analysis()})], "out of the teacher")
    assert said == HOLDS
    assert numbers == ["teacher's decisions that are true: on mixed images 60.0 %, on clean ones 97.0 %, as claimed"]


def test_tokens_diverge_over_the_epochs(verdict, make_run, student_analysis):
    runs = [make_run(history=[student_analysis(1), student_analysis(4)])]
    said, numbers = verdict(runs, "diverge")
    assert said == IN_PART  # one half: nothing tells of another teacher
    assert (
        "share of the images on which CLS and DIST decide differently: after 4 epochs 14.0 %, after 1 epoch 11.0 %"
        in numbers[0]
    )
    assert verdict([make_run("once", history=[student_analysis(1)])], "diverge")[0] == UNKNOWN


def test_tokens_that_diverge_name_the_images_of_the_epochs_compared(verdict, make_run, student_analysis):
    history = [{**student_analysis(epoch), "split": "train", "images": 256} for epoch in (1, 2, 4)]
    history[1]["images"] = 20
    assert "share of the images on" in verdict([make_run("all", history=history[1:])], "diverge")[1][0]
    del history[1]["diversity"]["disagreement"]
    said = "share of 256 training images on which CLS and DIST decide differently: after 4 epochs 14.0 %, after 1"
    assert said in verdict([make_run("some", history=history)], "diverge")[1][0]


@pytest.mark.parametrize(("sam", "said"), [((True, False), FAILS), ((False, True), HOLDS)])
def test_a_flat_teacher_is_judged_beside_one_without_sam(verdict, make_run, student_analysis, sam, said):
    few, many = student_analysis(), student_analysis()
    few["rank"]["dist"]["components"] = [1, 1, 1, 1]
    runs = [
        make_run("many", sam=sam[0], analyses={"student": many, "teacher": {"sharpness": {"all": {"eigenvalue": 9}}}}),
        make_run("few", sam=sam[1], analyses={"student": few, "teacher": {"sharpness": {"all": {"eigenvalue": 2}}}}),
    ]
    assert verdict(runs, "low-rank")[0] == said
    assert verdict(runs, "flatter")[0] == said
    assert verdict(runs[:1], "low-rank") == (UNKNOWN, [])


@pytest.mark.parametrize("method", ["deit", "no_ood", "deit_lt"])  # its views say what a teacher is, not a name
def test_students_of_either_kind_of_teacher_are_compared(verdict, make_run, student_analysis, method):
    out = make_run("out", analyses={"student": student_analysis(shift=5.0)})
    same = {part: out.stages["student"]["recipe"]["views"][part] for part in ("train", "mixing")}
    inside = make_run("in", analyses={"student": student_analysis()}, method=method, views=same)
    said, numbers = verdict([out, inside], "diverge")
    assert said == IN_PART
    assert "out-of-distribution teacher 19.0 %, in-distribution teacher 14.0 %" in numbers[0]


def test_a_vit_may_be_a_run_of_its_own(verdict, make_run):
    vit = make_run("vit", student={"cls": {"all": 90.0, "tail": 10.0}}, baseline=None)
    assert any(
        "students without a teacher 90.0 %, not as claimed" in text for text in verdict([make_run(), vit], "CNN")[1]
    )


def test_sharpness_names_its_images_and_is_compared_on_as_many(verdict, make_run):
    def run(name, sam, eigenvalue, images):
        found = {"sharpness": {"all": {"eigenvalue": eigenvalue, "images": images}}}
        return make_run(name, sam=sam, analyses={"teacher": found})

    flat, sharp, other = run("flat", True, 2.0, 200), run("sharp", False, 9.0, 200), run("other", False, 9.0, 100)
    said, numbers = verdict([flat, sharp], "flatter")
    assert said == HOLDS
    assert numbers == [
        "the teacher's largest Hessian eigenvalue on 200 training images: with SAM 2.0, without 9.0, as claimed"
    ]
    assert verdict([flat, other], "flatter") == (UNKNOWN, [])


def test_what_is_said_of_the_same_stands_in_one_line(verdict, make_run, student_analysis):
    analysis = student_analysis()
    analysis["agreement"]["cropped"] = {"all": 97.0}
    said, numbers = verdict([make_run(analyses={"student": analysis})], "out of the teacher")
    assert said == IN_PART
    assert numbers == [
        "teacher's decisions that are true: on mixed images 60.0 %, on clean ones 97.0 %, as claimed; "
        "on cropped images 97.0 %, on clean ones 97.0 %, equal, not as claimed"
    ]


def test_the_lead_is_greatest_in_the_tail_or_the_claim_holds_in_part(verdict, make_run):
    run = make_run()
    said, numbers = verdict([run], "CNN")
    assert said == HOLDS
    assert numbers[-1] == "lead: in the tail 21.3 points, over all images 6.6 points, as claimed"
    run.metrics["student"]["avg"]["tail"] = 28.6
    said, numbers = verdict([run], "CNN")
    assert said == IN_PART
    assert numbers[-1] == "lead: in the tail 1.0 points, over all images 6.6 points, not as claimed"


def test_ranks_are_compared_block_by_block(verdict, make_run, student_analysis):
    low, high = student_analysis(), student_analysis()
    low["rank"]["dist"]["components"] = [1, 1, 1, 40]
    runs = [make_run("a", analyses={"student": low}), make_run("b", sam=False, analyses={"student": high})]
    said, numbers = verdict(runs, "low-rank")
    assert said == IN_PART
    assert numbers[0].endswith("SAM teacher 10.8, teacher without SAM 10.5, as claimed in 3 of 4 blocks")
    high["rank"]["dist"]["components"] = [50] * 4
    runs[1] = make_run("c", sam=False, analyses={"student": high})
    assert verdict(runs, "low-rank")[0] == HOLDS


def test_a_teacher_that_is_sharper_in_the_tail_is_flatter_in_part(verdict, make_run):
    def run(name, sam, whole, tail):
        sharpness = {"all": {"eigenvalue": whole, "images": 200}, "tail": {"eigenvalue": tail, "images": 25}}
        return make_run(name, sam=sam, analyses={"teacher": {"sharpness": sharpness}})

    said, numbers = verdict([run("flat", True, 2.0, 30.0), run("sharp", False, 9.0, 20.0)], "flatter")
    assert said == IN_PART
    words = (
        "the teacher's largest Hessian eigenvalue on 200 training images, the tail's alone: with SAM 30.0, without 20.0"
    )
    assert numbers[1] == f"{words}, not as claimed"


def test_a_control_without_a_teacher_is_no_plain_vit_and_no_student_of_one(verdict, make_run):
    control = make_run(
        "control", student={"cls": {"all": 9.0}, "dist": {"all": 9.0}, "avg": {"all": 9.0}}, baseline=None
    )
    control.stages["student"]["recipe"]["distillation"]["kind"] = "none"
    vit = make_run("vit", student={"cls": {"all": 90.0, "tail": 10.0}}, baseline=None)
    assert verdict([control, vit], "CNN") == (UNKNOWN, [])


def test_a_run_of_a_teacher_alone_is_no_plain_vit(verdict, make_run):
    alone = make_run("teacher", student=None, baseline=None)
    vit = make_run("vit", student={"cls": {"all": 79.0, "tail": 1.0}}, baseline=None)
    said, numbers = verdict([make_run("a", baseline=None), alone, vit], "CNN")
    assert said == HOLDS
    assert numbers[0] == "accuracy, runs beside runs: AVG 81.0 %, students without a teacher 79.0 %, as claimed"


def test_what_else_the_runs_compared_differ_in_is_said(make_run):
    def note(*runs):
        (found,) = (found for found in findings(runs) if found.claim.across is claim_numbers.flat_teacher)
        return list(found.notes)

    def run(name, sam):
        found = {"sharpness": {"all": {"eigenvalue": 2.0 + sam, "images": 200}}}
        return make_run(name, sam=sam, analyses={"teacher": found})

    with_sam, without = run("with", True), run("without", False)
    assert note(with_sam, without) == []
    without.stages["teacher"]["recipe"]["epochs"] = 9
    assert note(with_sam, without) == ["The runs compared differ in teacher.epochs, too."]


def test_a_claim_of_two_halves_holds_where_both_were_measured(make_run, student_analysis):
    def found(*runs):
        return next(found for found in findings(runs) if "diverge" in found.claim.title)

    history = [student_analysis(1), student_analysis(4)]
    out = make_run("out", analyses={"student": student_analysis(shift=5.0)}, history=history)
    same = {part: out.stages["student"]["recipe"]["views"][part] for part in ("train", "mixing")}
    inside = make_run("in", analyses={"student": student_analysis()}, views=same)
    assert (found(out, inside).verdict, list(found(out, inside).notes)) == (HOLDS, [])
    assert found(out).verdict == IN_PART
    (note,) = found(out).notes
    assert note.startswith("Only one half of it was measured; for the other: analyse at least twice while training")
