"""`deitlt analyze`: what trained networks do inside, as numbers, a table and pictures."""

from omegaconf import DictConfig


def main(config: DictConfig) -> None:
    """Analyse each network of a run, or one checkpoint; write its JSON, CSV and pictures, print a table.

    Raises:
        ConfigError: for a part that none of the networks has, or a split that the data lack.
        CheckpointError: if there is no checkpoint, or it cannot be read.
    """
    from deitlt.engine.analysis import analyse_run

    analyse_run(config)
