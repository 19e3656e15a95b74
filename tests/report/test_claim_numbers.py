import pytest

from deitlt.report.claims import FAILS, HOLDS, IN_PART, UNKNOWN


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
    assert said == HOLDS
    assert (
        "share of the images on which CLS and DIST decide differently: after 4 epochs 14.0 %, after 1 epochs 11.0 %"
        in numbers[0]
    )
    assert verdict([make_run("once", history=[student_analysis(1)])], "diverge")[0] == UNKNOWN


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
    assert said == HOLDS
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
