"""`batch_size=auto` settled before anything is measured, as `deitlt train` settles it."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from deitlt.benchmarks.bench import Workload, measured_stage, teacher_checkpoint
from deitlt.engine.auto_batch import settle_batch
from deitlt.engine.batches import AUTO
from deitlt.errors import ConfigError


def with_batches(config: DictConfig, names: Iterable[str], folder: Path, workload: Workload) -> DictConfig:
    """The configuration with numbers in place of 'auto'.

    Args:
        config: the run's.
        names: the stages that will be measured.
        folder: where files may be written.
        workload: whether their images are generated.

    Raises:
        ConfigError: the data set that a batch would be sought with is generated.
    """
    for name in names:
        stage = measured_stage(config, name, folder / f"{name}_batch")
        if stage.recipe["batch_size"] != AUTO:
            continue
        key = f"{stage.kind}.batch_size"
        if workload.generated is not None:
            raise ConfigError(f"{key}=auto is sought with the data set's own images; type {key}=128, say.")
        if stage.distils:
            stage = replace(stage, teacher=str(teacher_checkpoint(config, folder, workload)))
        settled, _ = settle_batch(stage, None)
        found = OmegaConf.merge(config, {stage.kind: {"batch_size": settled.recipe["batch_size"]}})
        assert isinstance(found, DictConfig)
        config = found
    return config
