"""A stage on one device runs here; on several, in a fresh process tree that reads its configuration from a file.

Lightning starts the other ranks by running the first one's command again. That command must therefore be
the stage alone: not a sweep, not a verb with overrides, not an earlier stage.
"""

import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from deitlt.errors import TrainingError, UserError, sentence
from deitlt.tasks.run_folder import write_text
from deitlt.tasks.stage import run_stage
from deitlt.tasks.stage_config import StageConfig

RANK_VARIABLES = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
STAGE_FILE, ERROR_FILE = "stage.yaml", "error.txt"
USER_ERROR = 2


def launch_stage(stage: StageConfig, console: Console) -> None:
    """Run a stage to its end, wherever its devices need it to run.

    Raises:
        UserError: what the stage could not do, in its own words.
    """
    file = Path(stage.folder) / STAGE_FILE
    stage.save(file)
    if stage.trainer["devices"] == 1:
        run_stage(stage, console)
        return
    error_file = file.with_name(ERROR_FILE)
    error_file.unlink(missing_ok=True)
    environment = {key: value for key, value in os.environ.items() if key not in RANK_VARIABLES}
    command = [sys.executable, "-m", "deitlt.tasks.launching", str(file)]
    # When one rank stops for an error of the user's, the others fail with tracebacks that say nothing more.
    ended = subprocess.run(command, env=environment, check=False, stderr=subprocess.PIPE, text=True)
    if ended.returncode == 0:
        return
    if error_file.exists():
        said = error_file.read_text()
        error_file.unlink()
        raise TrainingError(said)
    sys.stderr.write(ended.stderr)  # a bug, or a signal
    raise SystemExit(ended.returncode)


def main(arguments: list[str]) -> int:
    """Run the stage of one file as one rank of its process tree."""
    file = Path(arguments[0])
    try:
        run_stage(StageConfig.load(file), Console(stderr=False))
    except UserError as error:
        if os.environ.get("DEITLT_DEBUG") == "1":
            raise
        write_text(file.with_name(ERROR_FILE), sentence(error))
        return USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
