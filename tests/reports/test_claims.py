import pytest

from deitlt.reports.claims import CLAIMS, FAILS, HOLDS, IN_PART, UNKNOWN, findings, is_out_of_distribution


def test_without_an_analysis_the_accuracies_are_judged_and_the_rest_is_not_measured(make_run):
    verdicts = [found.verdict for found in findings([make_run()])]
    assert verdicts == [HOLDS, HOLDS, *[UNKNOWN] * (len(CLAIMS) - 2)]


def test_experts_are_read_off_head_and_tail(verdict, make_run):
    run = make_run()
    said, numbers = verdict([run], "experts")
    assert said == HOLDS
    assert numbers[1] == "tail accuracy: DIST 69.3 %, CLS 27.2 %, as claimed"
    run.metrics["student"]["cls"]["head"] = 93.9
    assert verdict([run], "experts")[0] == IN_PART
    run.metrics["student"]["dist"]["tail"] = 27.2  # a tie is no expert
    said, numbers = verdict([run], "experts")
    assert said == FAILS
    assert all(text.endswith("not as claimed") for text in numbers)


def test_a_tie_on_the_head_is_no_worse_but_alone_it_claims_nothing(verdict, make_run):
    run = make_run()
    run.metrics["student"]["cls"]["head"] = 94.0
    said, numbers = verdict([run], "experts")
    assert said == HOLDS  # DIST leads in the tail
    assert numbers[0] == "head accuracy: CLS 94.0 %, DIST 94.0 %, equal, so no worse"
    run.metrics["student"]["dist"]["tail"] = 27.2
    said, numbers = verdict([run], "experts")
    assert said == FAILS
    assert numbers[1].endswith("equal, not as claimed")


def test_seeds_are_told_as_means_and_counted(verdict, make_run):
    runs = [make_run(str(seed), seed=seed) for seed in range(2)]
    runs[1].metrics["student"]["dist"]["tail"] = 20.7
    said, numbers = verdict(runs, "experts")
    assert said == IN_PART
    assert numbers[1] == "tail accuracy: DIST 45.0 %, CLS 27.2 %, as claimed in 1 of 2 runs"


def test_early_attention_is_that_of_the_patches_in_two_blocks(verdict, make_run, student_analysis):
    analyses = {"student": student_analysis(), "baseline": student_analysis(shift=3.0)}
    analyses["student"]["attention_distance"]["patches"][2] = [50.0, 50.0]  # the third block is not early
    said, numbers = verdict([make_run(analyses=analyses)], "local")
    assert said == HOLDS
    assert numbers == [
        "attention distance of the patches in the first two blocks: DeiT-LT 3.5 px, plain ViT 6.5 px, as claimed"
    ]


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
    same = {part: out.stages["student"]["recipe"]["transforms"][part] for part in ("train", "mixing")}
    inside = make_run("in", analyses={"student": student_analysis()}, method=method, views=same)
    said, numbers = verdict([out, inside], "diverge")
    assert said == IN_PART
    assert "out-of-distribution teacher 19.0 %, in-distribution teacher 14.0 %" in numbers[0]


def test_a_vit_may_be_a_run_of_its_own(verdict, make_run):
    vit = make_run("vit", student={"cls": {"all": 90.0, "tail": 10.0}}, baseline=None)
    assert any(
        "students without a teacher 90.0 %, not as claimed" in text for text in verdict([make_run(), vit], "CNN")[1]
    )


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


def test_what_else_the_runs_compared_differ_in_is_said(make_run):
    def note(*runs):
        (found,) = (found for found in findings(runs) if "flatter" in found.claim.title)
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
    same = {part: out.stages["student"]["recipe"]["transforms"][part] for part in ("train", "mixing")}
    inside = make_run("in", analyses={"student": student_analysis()}, views=same)
    assert (found(out, inside).verdict, list(found(out, inside).notes)) == (HOLDS, [])
    assert found(out).verdict == IN_PART
    (note,) = found(out).notes
    assert note.startswith("Only one half of it was measured; for the other: analyse at least twice while training")


OTHER = [{"images": 256, "split": "test"}, {"images": 10000, "split": "train"}]


@pytest.mark.parametrize("other", OTHER, ids=str)
def test_numbers_of_other_images_are_not_compared(verdict, make_run, student_analysis, other):
    first, second = student_analysis() | {"images": 10000, "split": "test"}, student_analysis(shift=3.0) | other
    taught = make_run(analyses={"student": first, "baseline": second})
    same_views = taught.stages["student"]["recipe"]["transforms"]
    foreign = make_run("foreign", sam=False, views=same_views, analyses={"student": second})
    alone = make_run("vit", analyses={"student": second})
    del alone.metrics["student"]["dist"]
    for title, beside in (("local", alone), ("low-rank", foreign), ("diverge", foreign)):
        assert verdict([taught, beside], title) == (UNKNOWN, [])


def test_of_several_samples_the_one_of_most_runs_is_compared(verdict, make_run, student_analysis):
    def run(name, sam, components, images):
        found = student_analysis() | {"images": images, "split": "test"}
        found["rank"]["dist"]["components"] = [components] * 4
        return make_run(name, sam=sam, analyses={"student": found})

    runs = [run("a", True, 9, 256), run("b", True, 50, 1000), run("c", True, 60, 1000)]
    runs += [run("d", False, 8, 256), run("e", False, 70, 1000)]
    said, numbers = verdict(runs, "low-rank")
    assert said == HOLDS
    assert "SAM teacher 55.0, teacher without SAM 70.0" in numbers[0]


def test_teachers_whose_views_nobody_wrote_down_are_not_compared(make_run, student_analysis):
    runs = [make_run(name, views=None, analyses={"student": student_analysis()}) for name in "ab"]
    assert [is_out_of_distribution(run) for run in runs] == [None, None]
    only_mixing = {**runs[0].stages["student"]["recipe"]["transforms"], "mixing": None}
    assert is_out_of_distribution(make_run("mixing", views=only_mixing)) is True
