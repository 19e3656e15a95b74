"""A stage on one device runs here; on several, in a fresh process tree that reads its configuration from a file.

Lightning starts the other ranks by running the first one's command again. That command must therefore be
the stage alone: not a sweep, not a verb with overrides, not an earlier stage.
"""

import os
import sys
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console

from deitlt.engine.hosts import Hosts
from deitlt.engine.preemption import preemptible
from deitlt.engine.process_tree import end_with
from deitlt.engine.ranks import ERROR_FILE, STAGE_FILE, Ranks, conclude, mark_warnings
from deitlt.engine.run_folder import write_text
from deitlt.engine.stage import run_stage
from deitlt.engine.stage_config import StageConfig
from deitlt.errors import OK, USER_ERROR, Preempted, UserError, sentence


def launch_stage(stage: StageConfig, console: Console, hosts: Hosts | None = None) -> None:
    """Run a stage to its end, wherever its devices need it to run.

    Args:
        stage: it.
        console: for what a stage in this process says.
        hosts: the others, where there are several.

    Raises:
        UserError: what the stage could not do, in its own words.
        Preempted: it was stopped, and can go on.
    """
    file = Path(stage.folder) / STAGE_FILE
    stage.save(file)
    if stage.ranks == 1:
        run_stage(stage, console)
    elif hosts is not None:
        hosts.run(stage, file)
    else:
        ranks = Ranks(file)
        conclude(ranks.wait(), ranks)


def main(arguments: list[str]) -> int:
    """Run the stage of one file as one rank of its process tree, as long as the process that started it lives."""
    file, parent = Path(arguments[0]), int(arguments[1])
    if "LOCAL_RANK" not in os.environ:  # the others' parent is the first rank
        end_with(parent)
    mark_warnings()
    try:
        with preemptible():
            stage = StageConfig.load(file)
            # The Trainer sets it, too, but loggers are made before that.
            rank_zero_only.rank = _rank(stage)  # type: ignore[attr-defined]
            run_stage(stage, Console(stderr=False))
    except UserError as error:
        if os.environ.get("DEITLT_DEBUG") == "1":
            raise
        write_text(file.with_name(ERROR_FILE), sentence(error))
        return USER_ERROR
    except Preempted as stopped:
        return stopped.CODE
    return OK


def _rank(stage: StageConfig) -> int:
    """This process's rank among those of all hosts."""
    host, device = (int(os.environ.get(name, 0)) for name in ("NODE_RANK", "LOCAL_RANK"))
    return host * (stage.ranks // stage.hosts) + device


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
