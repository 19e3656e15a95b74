import pytest

from deitlt.reports.claims import (
    CLAIMS,
    FAILS,
    HOLDS,
    IN_PART,
    UNKNOWN,
    findings,
)


def finding(runs, title):
    """The claim of runs whose title has a word."""
    (found,) = (found for found in findings(runs) if title in found.claim.title)
    return found


def verdict(runs, title):
    found = finding(runs, title)
    return found.verdict, list(found.numbers)


def test_without_an_analysis_the_accuracies_are_judged_and_the_rest_is_not_measured(make_run):
    verdicts = [found.verdict for found in findings([make_run()])]
    assert verdicts == [HOLDS, HOLDS, *[UNKNOWN] * (len(CLAIMS) - 2)]


def test_experts_are_read_off_head_and_tail(make_run):
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


def test_a_tie_on_the_head_is_no_worse_but_alone_it_claims_nothing(make_run):
    run = make_run()
    run.metrics["student"]["cls"]["head"] = 94.0
    said, numbers = verdict([run], "experts")
    assert said == HOLDS  # DIST leads in the tail
    assert numbers[0] == "head accuracy: CLS 94.0 %, DIST 94.0 %, equal, so no worse"
    run.metrics["student"]["dist"]["tail"] = 27.2
    said, numbers = verdict([run], "experts")
    assert said == FAILS
    assert numbers[1].endswith("equal, not as claimed")


def test_seeds_are_told_as_means_and_counted(make_run):
    runs = [make_run(str(seed), seed=seed) for seed in range(2)]
    runs[1].metrics["student"]["dist"]["tail"] = 20.7
    said, numbers = verdict(runs, "experts")
    assert said == IN_PART
    assert numbers[1] == "tail accuracy: DIST 45.0 %, CLS 27.2 %, as claimed in 1 of 2 runs"


def test_the_lead_is_greatest_in_the_tail_or_the_claim_holds_in_part(make_run):
    run = make_run()
    said, numbers = verdict([run], "CNN")
    assert said == HOLDS
    assert numbers[-1] == "lead: in the tail 21.3 points, over all images 6.6 points, as claimed"
    run.metrics["student"]["avg"]["tail"] = 28.6
    said, numbers = verdict([run], "CNN")
    assert said == IN_PART
    assert numbers[-1] == "lead: in the tail 1.0 points, over all images 6.6 points, not as claimed"


def test_a_vit_may_be_a_run_of_its_own_and_a_control_without_a_teacher_is_none(make_run):
    vit = make_run("vit", student={"cls": {"all": 90.0, "tail": 10.0}}, baseline=None)
    _, numbers = verdict([make_run(), vit], "CNN")
    assert any("students without a teacher 90.0 %, not as claimed" in text for text in numbers)
    tokens = {token: {"all": 9.0} for token in ("cls", "dist", "avg")}
    control = make_run("control", student=tokens, baseline=None)
    control.stages["student"]["recipe"]["distillation"]["kind"] = "none"
    assert verdict([control, vit], "CNN") == (UNKNOWN, [])


def test_early_attention_is_that_of_the_patches_in_two_blocks(make_run, student_analysis):
    analyses = {"student": student_analysis(), "baseline": student_analysis(shift=3.0)}
    analyses["student"]["attention_distance"]["patches"][2] = [50.0, 50.0]  # the third block is not early
    words = "attention distance of the patches in the first two blocks: DeiT-LT 3.5 px, plain ViT 6.5 px, as claimed"
    assert verdict([make_run(analyses=analyses)], "local") == (HOLDS, [words])


def test_the_teacher_errs_on_the_students_images(make_run, student_analysis):
    words = "teacher's decisions that are true: on mixed images 60.0 %, on clean ones 97.0 %, as claimed"
    assert verdict([make_run(analyses={"student": student_analysis()})], "out of the teacher") == (HOLDS, [words])


def test_tokens_diverge_over_the_epochs_on_named_images(make_run, student_analysis):
    said, numbers = verdict([make_run(history=[student_analysis(1), student_analysis(4)])], "diverge")
    assert said == IN_PART  # one half: nothing tells of another teacher
    apart = "on which CLS and DIST decide differently: after 4 epochs 14.0 %, after 1 epoch 11.0 %"
    assert f"share of the images {apart}" in numbers[0]
    assert verdict([make_run("once", history=[student_analysis(1)])], "diverge")[0] == UNKNOWN
    history = [{**student_analysis(epoch), "split": "train", "images": 256} for epoch in (1, 2, 4)]
    history[1]["images"] = 20
    del history[1]["diversity"]["disagreement"]  # only the epochs that are compared count
    assert f"share of 256 training images {apart}" in verdict([make_run("some", history=history)], "diverge")[1][0]
    history[0]["images"] = 20
    assert f"share of the images {apart}" in verdict([make_run("all", history=history)], "diverge")[1][0]


@pytest.mark.parametrize(("sam", "said"), [((True, False), FAILS), ((False, True), HOLDS)])
def test_a_flat_teacher_is_judged_beside_one_without_sam(make_run, student_analysis, sam, said):
    few, many = student_analysis(), student_analysis()
    few["rank"]["dist"]["components"] = [1, 1, 1, 1]
    runs = [
        make_run("many", sam=sam[0], analyses={"student": many, "teacher": {"sharpness": {"all": {"eigenvalue": 9}}}}),
        make_run("few", sam=sam[1], analyses={"student": few, "teacher": {"sharpness": {"all": {"eigenvalue": 2}}}}),
    ]
    assert verdict(runs, "low-rank")[0] == said
    assert verdict(runs, "flatter")[0] == said
    assert verdict(runs[:1], "low-rank") == (UNKNOWN, [])


def test_ranks_are_compared_block_by_block(make_run, student_analysis):
    low = student_analysis()
    low["rank"]["dist"]["components"] = [1, 1, 1, 40]
    other = make_run("b", sam=False, analyses={"student": student_analysis()})
    said, numbers = verdict([make_run("a", analyses={"student": low}), other], "low-rank")
    assert said == IN_PART
    assert numbers[0].endswith("SAM teacher 10.8, teacher without SAM 10.5, as claimed in 3 of 4 blocks")


def sharp(make_run, name, sam, whole=2.0, tail=None):
    sharpness = {"all": {"eigenvalue": whole, "images": 200}}
    sharpness |= {} if tail is None else {"tail": {"eigenvalue": tail, "images": 25}}
    return make_run(name, sam=sam, analyses={"teacher": {"sharpness": sharpness}})


def test_a_teacher_that_is_sharper_in_the_tail_is_flatter_in_part(make_run):
    runs = [sharp(make_run, "flat", True, 2.0, 30.0), sharp(make_run, "sharp", False, 9.0, 20.0)]
    said, numbers = verdict(runs, "flatter")
    assert said == IN_PART
    words = "the teacher's largest Hessian eigenvalue on 200 training images, the tail's alone"
    assert numbers[1] == f"{words}: with SAM 30.0, without 20.0, not as claimed"


def test_what_else_the_runs_compared_differ_in_is_said(make_run):
    with_sam, without = sharp(make_run, "with", True), sharp(make_run, "without", False)
    assert finding([with_sam, without], "flatter").notes == []
    without.stages["teacher"]["recipe"]["epochs"] = 9
    said = "Compared: digits beside digits; they differ in teacher.epochs, too."
    assert finding([with_sam, without], "flatter").notes == [said]


@pytest.mark.parametrize("method", ["deit", "no_ood", "deit_lt"])  # its transforms say what a teacher is, not a name
def test_students_of_either_kind_of_teacher_are_compared(make_run, student_analysis, method):
    history = [student_analysis(1), student_analysis(4)]
    out = make_run("out", analyses={"student": student_analysis(shift=5.0)})
    same = {part: out.recipe("student")["transforms"][part] for part in ("train", "mixing")}
    inside = make_run("in", analyses={"student": student_analysis()}, method=method, transforms=same)
    found = finding([out, inside], "diverge")
    assert found.verdict == IN_PART
    assert "out-of-distribution teacher 19.0 %, in-distribution teacher 14.0 %" in found.numbers[0]
    (note,) = found.notes
    assert note.startswith("Only one half of it was measured; for the other: analyse at least twice while training")
    both = make_run("both", analyses={"student": student_analysis(shift=5.0)}, history=history)
    found = finding([both, inside], "diverge")
    assert (found.verdict, found.notes) == (HOLDS, [])


@pytest.mark.parametrize("other", [{"images": 256, "split": "test"}, {"images": 10000, "split": "train"}], ids=str)
def test_numbers_of_other_images_are_not_compared(make_run, student_analysis, other):
    first, second = student_analysis() | {"images": 10000, "split": "test"}, student_analysis(shift=3.0) | other
    taught = make_run(analyses={"student": first, "baseline": second})
    same = taught.recipe("student")["transforms"]
    inside = make_run("inside", sam=False, transforms=same, analyses={"student": second})
    alone = make_run("vit", analyses={"student": second})
    del alone.metrics["student"]["dist"]
    for title, beside in (("local", alone), ("low-rank", inside), ("diverge", inside)):
        assert verdict([taught, beside], title) == (UNKNOWN, [])


def test_of_several_samples_the_one_of_most_runs_is_compared(make_run, student_analysis):
    def run(name, sam, components, images):
        found = student_analysis() | {"images": images, "split": "test"}
        found["rank"]["dist"]["components"] = [components] * 4
        return make_run(name, sam=sam, analyses={"student": found})

    runs = [run("a", True, 9, 256), run("b", True, 50, 1000), run("c", True, 60, 1000)]
    runs += [run("d", False, 8, 256), run("e", False, 70, 1000)]
    said, numbers = verdict(runs, "low-rank")
    assert said == HOLDS
    assert "SAM teacher 55.0, teacher without SAM 70.0" in numbers[0]
