import pytest

from deitlt.report.claims import CLAIMS, FAILS, HOLDS, IN_PART, UNKNOWN, findings
from deitlt.report.evidence import Evidence
from deitlt.report.measures import is_out_of_distribution


def verdict(runs, title):
    (found,) = (found for found in findings(runs) if title in found.claim.title)
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


def test_ties_of_several_seeds_are_counted_by_themselves(make_run):
    runs = [make_run(str(seed), seed=seed) for seed in range(2)]
    runs[1].metrics["student"]["cls"]["head"] = 94.0
    said, numbers = verdict(runs, "experts")
    assert said == HOLDS
    assert numbers[0].endswith("; as claimed in 1 of 2 runs, equal in 1")


def test_seeds_are_told_as_means_and_counted(make_run):
    runs = [make_run(str(seed), seed=seed) for seed in range(2)]
    runs[1].metrics["student"]["dist"]["tail"] = 20.7
    said, numbers = verdict(runs, "experts")
    assert said == IN_PART
    assert numbers[1] == "tail accuracy: DIST 45.0 %, CLS 27.2 %; as claimed in 1 of 2 runs"


def test_early_attention_is_that_of_the_patches_in_two_blocks(make_run, student_analysis):
    analyses = {"student": student_analysis(), "baseline": student_analysis(shift=3.0)}
    analyses["student"]["attention_distance"]["patches"][2] = [50.0, 50.0]  # the third block is not early
    said, numbers = verdict([make_run(analyses=analyses)], "local")
    assert said == HOLDS
    assert numbers == [
        "attention distance of the patches in the first two blocks: DeiT-LT 3.5 px, plain ViT 6.5 px, as claimed"
    ]


def test_early_attention_is_compared_with_a_vit_of_another_run(make_run, student_analysis):
    taught = make_run(analyses={"student": student_analysis(shift=1.0)})
    alone = make_run("vit", method="vit", analyses={"student": student_analysis()})
    del alone.metrics["student"]["dist"]
    said, numbers = verdict([taught, alone], "local")
    assert said == FAILS
    assert "runs beside runs: with a teacher 4.5 px, without 3.5 px, not as claimed" in numbers[0]


def test_the_teacher_errs_on_foreign_views(make_run, student_analysis):
    said, numbers = verdict([make_run(analyses={"student": student_analysis()})], "out of the teacher")
    assert said == HOLDS
    assert numbers == ["teacher's decisions that are true: on mixed images 60.0 %, on clean ones 97.0 %, as claimed"]


def test_tokens_diverge_over_the_epochs(make_run, student_analysis):
    runs = [make_run(history=[student_analysis(1), student_analysis(4)])]
    said, numbers = verdict(runs, "diverge")
    assert said == HOLDS
    assert "epoch 4 14.0 %, epoch 1 11.0 %" in numbers[0]
    assert verdict([make_run("once", history=[student_analysis(1)])], "diverge")[0] == UNKNOWN


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


@pytest.mark.parametrize("method", ["deit", "no_ood", "deit_lt"])  # its views say what a teacher is, not a name
def test_students_of_either_kind_of_teacher_are_compared(make_run, student_analysis, method):
    out = make_run("out", analyses={"student": student_analysis(shift=5.0)})
    same = {part: out.stages["student"]["recipe"]["views"][part] for part in ("train", "mixing")}
    inside = make_run("in", analyses={"student": student_analysis()}, method=method, views=same)
    said, numbers = verdict([out, inside], "diverge")
    assert said == HOLDS
    assert "out-of-distribution teacher 19.0 %, in-distribution teacher 14.0 %" in numbers[0]


def test_teachers_whose_views_nobody_wrote_down_are_not_compared(make_run, student_analysis):
    runs = [make_run(name, views=None, analyses={"student": student_analysis()}) for name in "ab"]
    assert [is_out_of_distribution(run) for run in runs] == [None, None]
    only_mixing = {**runs[0].stages["student"]["recipe"]["views"], "mixing": None}
    assert is_out_of_distribution(make_run("mixing", views=only_mixing)) is True


OTHER = [{"images": 256, "split": "test"}, {"images": 10000, "split": "train"}]


@pytest.mark.parametrize("other", OTHER, ids=str)
def test_numbers_of_other_images_are_not_compared(make_run, student_analysis, other):
    first, second = student_analysis() | {"images": 10000, "split": "test"}, student_analysis(shift=3.0) | other
    taught = make_run(analyses={"student": first, "baseline": second})
    same_views = taught.stages["student"]["recipe"]["views"]
    foreign = make_run("foreign", sam=False, views=same_views, analyses={"student": second})
    alone = make_run("vit", analyses={"student": second})
    del alone.metrics["student"]["dist"]
    for title, beside in (("local", alone), ("low-rank", foreign), ("diverge", foreign)):
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


def test_a_vit_may_be_a_run_of_its_own(make_run):
    vit = make_run("vit", student={"cls": {"all": 90.0, "tail": 10.0}}, baseline=None)
    mixed: list[Evidence] = [make_run(), vit]
    assert any("students without a teacher 90.0 %, not as claimed" in text for text in verdict(mixed, "CNN")[1])
