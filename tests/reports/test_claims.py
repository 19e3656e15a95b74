from deitlt.reports.claims import FAILS, HOLDS, IN_PART, UNKNOWN, findings
from deitlt.reports.paper_claims import CLAIMS


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


def test_ties_of_several_seeds_are_counted_by_themselves(verdict, make_run):
    runs = [make_run(str(seed), seed=seed) for seed in range(2)]
    runs[1].metrics["student"]["cls"]["head"] = 94.0
    said, numbers = verdict(runs, "experts")
    assert said == HOLDS
    assert numbers[0].endswith(", as claimed in 1 of 2 runs, equal in 1")


def test_seeds_are_told_as_means_and_counted(verdict, make_run):
    runs = [make_run(str(seed), seed=seed) for seed in range(2)]
    runs[1].metrics["student"]["dist"]["tail"] = 20.7
    said, numbers = verdict(runs, "experts")
    assert said == IN_PART
    assert numbers[1] == "tail accuracy: DIST 45.0 %, CLS 27.2 %, as claimed in 1 of 2 runs"


def test_what_to_do_for_tokens_that_diverge_is_to_analyse_twice(make_run, student_analysis):
    (found,) = (f for f in findings([make_run(history=[student_analysis(1)])]) if "diverge" in f.claim.title)
    assert found.verdict == UNKNOWN
    assert "at least twice while training (analysis.every=1)" in found.claim.needs
