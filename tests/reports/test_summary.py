from deitlt.reports.summary import commands, facts, measured_in_words, results_in_words, trained_in_words


def test_what_was_trained_is_told(make_run):
    words = trained_in_words(make_run())
    assert "A teacher, deit_tiny, was trained for 4 epochs with SAM." in words
    assert "A student, deit_tiny (depth 4), whose DIST token learns the teacher's hard decisions" in words
    assert "from epoch 2 on its loss is re-weighted for the tail" in words
    assert "plain ViT of the same size" in words


def test_results_are_ordered_by_the_tail(make_run):
    assert results_in_words([make_run()]) == (
        "In the tail the teacher is right on 90.0 % of the images, DIST on 69.3 %, AVG on 48.9 %, the plain ViT on "
        "27.6 % and CLS on 27.2 %. Over all test images the teacher leads with 95.0 %."
    )


def test_nobody_leads_where_the_numbers_are_shown_alike(make_run):
    plain = {"all": 10.0, "tail": 0.0}
    run = make_run(teacher=plain, student={"cls": plain, "dist": {**plain, "all": 10.04}}, baseline=None)
    ends = "Over all test images the teacher, CLS and DIST are equal with 10.0 %."
    assert results_in_words([run]).endswith(ends)
    run.metrics["teacher"] = {"all": 9.0, "tail": 0.0}
    assert results_in_words([run]).endswith("Over all test images CLS and DIST lead with 10.0 %.")


def test_equal_tails_have_no_order(make_run):
    plain = {"all": 10.0, "tail": 0.0}
    run = make_run(teacher={**plain, "tail": 0.04}, student={"cls": plain, "dist": plain}, baseline=None)
    said = "In the tail the teacher, CLS and DIST are equally right, on 0.0 % of the images. Over"
    assert results_in_words([run]).startswith(said)


def test_a_run_without_a_tail_tells_nothing(make_run):
    run = make_run(teacher={"all": 90.0}, student=None, baseline=None)
    assert results_in_words([run]) == ""


def test_commands_are_those_that_were_typed(make_run):
    run = make_run()
    run.config["recipe"]["overrides"].append("data.root=my pictures")
    (what, command), *others = commands(run)
    assert (what, command) == ("Train it again", "deitlt train experiment=digits seed=0 'data.root=my pictures'")
    assert others[-1][1] == f"deitlt report {run.run.folder} --html=report.html"
    assert others[0][1] == f"deitlt evaluate checkpoint={run.run.folder}"


def test_training_again_has_a_folder_of_its_own(make_run):
    run = make_run()
    run.config["recipe"]["overrides"].append("paths.output_dir=runs/a")
    assert commands(run)[0] == ("Train it again", "deitlt train experiment=digits seed=0")


def test_a_run_that_kept_no_words_shows_its_recipe(make_run):
    run = make_run()
    del run.config["recipe"]["overrides"]
    assert commands(run)[0] == (
        "Its recipe, without what the run changed in it",
        "deitlt train experiment=digits seed=0",
    )


def test_facts_are_in_words(make_run):
    found = facts(make_run(seconds={"teacher": 100.0, "student": 400.0, "baseline": 90000}, versions={"torch": "2.15"}))
    assert found["Time"] == "teacher 100 s; student 7 min; plain ViT 25.0 h"
    assert found["Machine"] == "1 CPU, 32-true"
    assert found["Versions"] == "torch 2.15"
    assert found["Reported epoch"] == "last epoch"
    assert "Method" not in found


def test_what_was_measured_on_is_told(make_run):
    assert measured_in_words([make_run("a")]) == ""
    found = {"epoch": 150, "images": 1256, "split": "train", "rank": {}, "diversity": {}}
    runs = [make_run(name, analyses={"student": found}) for name in "bc"]
    assert measured_in_words(runs) == "Measured after 150 epochs on 1,256 training images."
    unknown = make_run("d", analyses={"student": {"epoch": 1, "rank": {}}})
    assert measured_in_words([unknown]) == "Measured after 1 epoch on its images."


def test_parts_that_were_measured_on_other_images_are_told_apart(make_run, student_analysis):
    while_training = student_analysis(4) | {"images": 256, "split": "val"}
    analysed = {"epoch": 3, "split": "test", "images": 500, "rank": {}, "calibration": {}}
    only_teacher = {"epoch": 4, "split": "test", "agreement": {}}
    run = make_run("a", history=[while_training], analyses={"student": only_teacher})
    assert measured_in_words([run]) == "Measured after 4 epochs on 256 validation images."
    run = make_run("b", history=[while_training], analyses={"student": analysed})
    assert measured_in_words([run]) == (
        "Measured after 4 epochs on 256 validation images: attention distance, diversity and winners; "
        "after 3 epochs on 500 test images: rank and calibration."
    )
