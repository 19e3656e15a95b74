import pytest

from deitlt.reports.claims import HOLDS, UNKNOWN

OTHER = [{"images": 256, "split": "test"}, {"images": 10000, "split": "train"}]


@pytest.mark.parametrize("other", OTHER, ids=str)
def test_numbers_of_other_images_are_not_compared(verdict, make_run, student_analysis, other):
    first, second = student_analysis() | {"images": 10000, "split": "test"}, student_analysis(shift=3.0) | other
    taught = make_run(analyses={"student": first, "baseline": second})
    same_views = taught.stages["student"]["recipe"]["views"]
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
