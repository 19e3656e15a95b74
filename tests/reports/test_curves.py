from deitlt.reports.curves import training_charts


def titles(run):
    return {stage: [chart.title for chart in charts] for stage, charts in training_charts(run).items()}


def test_each_stage_has_its_curves(make_run):
    found = titles(make_run())
    assert found["Student"] == ["Training loss", "Validation accuracy, %", "Learning rate (SAM's rho: 0.1 throughout)"]
    assert set(found) == {"Teacher", "Student", "Plain ViT"}


def test_tokens_have_lines_of_their_own_and_drw_is_marked(make_run):
    loss, accuracy, _ = training_charts(make_run())["Student"]
    assert [entry.name for entry in loss.legend] == ["CLS", "DIST"]
    assert ">DRW</text>" in loss.svg
    assert "DIST: 10 at epoch 1, 50 at epoch 2." in accuracy.alt


def test_a_rho_that_changes_is_drawn(make_run):
    run = make_run()
    run.curves["teacher"]["train/rho"][-1] = (3.0, 0.5)
    assert titles(run)["Teacher"][-2:] == ["Learning rate", "SAM's rho"]


def test_a_single_test_is_no_curve_and_a_stage_without_any_is_absent(make_run):
    run = make_run()
    assert not any("Test" in title for title in titles(run)["Student"])
    run.curves["teacher"].clear()
    assert "Teacher" not in titles(run)


def test_one_token_has_one_loss(make_run):
    run = make_run()
    run.curves["baseline"]["train/loss_dist"] = [(1.0, 0.0), (2.0, 0.0)]
    loss = training_charts(run)["Plain ViT"][0]
    assert loss.alt == "Training loss. Plain ViT: 2.4 at epoch 1, 0.4 at epoch 3."
