"""`deitlt train`: the stages of a run one after the other, then the table and the picture."""

import json
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from deitlt.checkpoints import write_atomically
from deitlt.engine.announcing import announce, say_how_to_upload
from deitlt.engine.hosts import Hosts, find_hosts, follow, leading, words_typed
from deitlt.engine.launching import launch_stage
from deitlt.engine.opening import open_run
from deitlt.engine.preemption import preemptible
from deitlt.engine.preparing import prepare
from deitlt.engine.results import collect, show, write_results, write_run_report
from deitlt.engine.run_folder import PRUNED, RunFolder
from deitlt.engine.stage_config import StageConfig
from deitlt.engine.stage_making import with_teacher

Plain = dict[str, Any]


def main(config: DictConfig) -> None:
    """Train the stages, or go on with a run that was interrupted."""
    console = Console()
    (place, lost_after), words = find_hosts(config), words_typed(config)
    if place is not None and not place.is_first:
        with preemptible(console=console):
            follow(place, words, lost_after)
        return
    with leading(place, words, lost_after) as hosts:
        run, config, changed = open_run(config)
        if run.metrics.exists():  # a scheduler may start a finished run again
            console.print(f"{run.path} holds a finished run", markup=False, soft_wrap=True, highlight=False)
            return
        with preemptible(run, console):
            train(config, run, changed, console, hosts)


def train(
    config: DictConfig, run: RunFolder, changed: list[str], console: Console, hosts: Hosts | None = None
) -> Plain:
    """Run every stage that has no result yet, and write what the run found.

    Everything that can be wrong is looked for before anything is written or trained.
    """
    prepared = prepare(config, run)
    stages, info, changed = prepared.stages, prepared.info, changed + prepared.differences
    if not run.config.exists():
        write_atomically(run.config, lambda file: file.write(OmegaConf.to_yaml(config).encode()))
    announce(config, run, stages, info, prepared.found, changed, console)
    for stage in stages:
        if not run.result(stage.name).exists():
            _train_stage(with_teacher(stage, config, run), run, console, hosts)
            if run.pruned is not None:
                console.print(f"{stage.name}: stopped by the search it is a trial of; see {run.pruned}", soft_wrap=True)
                return {}
    results = {stage.name: json.loads(run.result(stage.name).read_text()) for stage in stages}
    metrics = collect(config, info, results, changed)
    write_results(metrics, results, run)
    show(metrics, run, console)
    say_how_to_upload(config, run, console)
    if config.get("report", True):  # older runs have no such key
        write_run_report(run, (with_teacher(stage, config, run) for stage in stages), console)
    return metrics


def _train_stage(stage: StageConfig, run: RunFolder, console: Console, hosts: Hosts | None) -> None:
    """Train one stage to its end; Ctrl-C says how to go on."""
    (run.stage(stage.name) / PRUNED).unlink(missing_ok=True)  # whoever resumes it wants it trained to its end
    try:
        launch_stage(stage, console, hosts)
    except KeyboardInterrupt:
        advice = f"type deitlt train resume={run.path}" if run.can_be_resumed else "no epoch was finished"
        console.print(f"interrupted; {advice}", markup=False, soft_wrap=True, highlight=False)
        raise
