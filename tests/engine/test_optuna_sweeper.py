import pytest

optuna = pytest.importorskip("optuna")
pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")

from deitlt.engine.optuna_sweeper import ResumableOptunaSweeper  # noqa: E402  # needs the plugin

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
STATES = optuna.trial.TrialState


def test_a_search_that_goes_on_makes_up_for_failed_trials_and_repeats_those_that_were_begun(tmp_path):
    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(study_name="s", storage=storage)
    for state, value in ((STATES.COMPLETE, 1.0), (STATES.PRUNED, None), (STATES.FAIL, None)):
        study.add_trial(optuna.trial.create_trial(state=state, value=value))
    study.ask()
    none = dict.fromkeys(("search_space", "custom_search_space", "params"))
    names = {"direction": "minimize", "storage": storage, "study_name": "s", "sampler": optuna.samplers.RandomSampler()}
    sweeper = ResumableOptunaSweeper(n_trials=5, n_jobs=1, max_failure_rate=1.0, **names, **none).sweeper
    sweeper.sweep_dir = str(tmp_path)
    sweeper.go_on()
    assert sweeper.n_trials == 3  # the one that was begun, one for the failed one, and one that is new
    states = [trial.state for trial in optuna.load_study(study_name="s", storage=storage).trials]
    assert states == [STATES.COMPLETE, STATES.PRUNED, STATES.FAIL, STATES.WAITING]
