"""`deitlt evaluate`: a checkpoint's accuracies on a test set, by token and group."""

from typing import Any

from omegaconf import DictConfig


def main(config: DictConfig) -> None:
    """Evaluate one checkpoint; write metrics.json and the per-class picture, print the table."""
    from rich.console import Console

    from deitlt.engine.run_folder import RunFolder, collect_evaluation, is_dated, keep_hits, show, write_results
    from deitlt.engine.trained import chosen_recipe, measure, open_data, open_trained
    from deitlt.modules import RAW

    run = RunFolder.of_job(config)
    if not is_dated(config):
        run.refuse_if_used()
    trained = open_trained(config)
    datamodule = open_data(config, trained.spec)
    trained = trained.in_order_of(datamodule.info)
    found = measure(trained, datamodule, owned=config.get("data") is None)
    results: dict[str, dict[str, Any]] = {trained.spec.kind: {"networks": {RAW: found}}}
    metrics = collect_evaluation(trained.spec, datamodule, results, str(trained.path))
    if not trained.spec.protocol and not config.ema and (experiment := chosen_recipe()) is not None:
        metrics["experiment"] = experiment  # a published file: the row of the table that its numbers belong beside
    run = run.claim() if is_dated(config) else run
    keep_hits(run, trained.spec.kind, {RAW: found["hits"]}, datamodule)
    write_results(metrics, results, run)
    show(metrics, run, Console())
