"""The batch script of docs/clusters.md, with a scheduler that only pretends."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "clusters.md"
# Each task of a step, one a host, with what Slurm tells it; and the highest exit code, as srun has it.
SRUN = """#!/bin/bash
for task in 0 1; do
    SLURM_NODEID=$task SLURM_PROCID=$task SLURM_STEP_NUM_TASKS=2 "$@" & tasks[$task]=$!
done
for task in 0 1; do wait ${tasks[$task]}; code=$?; [ $code -gt ${most:-0} ] && most=$code; done
exit ${most:-0}
"""


@pytest.fixture
def batch(tmp_path, environment):
    """Runs the script as a job of two hosts whose `deitlt` is a stand-in; answers with what was told to whom."""

    def run(stand_in):
        (tmp_path / "bin").mkdir(exist_ok=True)
        for name, text in {
            "srun": SRUN,
            "scontrol": f'#!/bin/bash\necho "scontrol $@" >> {tmp_path}/told\n',
            "deitlt": stand_in,
        }.items():
            file = tmp_path / "bin" / name
            file.write_text(text)
            file.chmod(0o755)
        text = GUIDE.read_text()
        script = textwrap.dedent(text[text.index("    #!/bin/bash") : text.index("`--signal` has Slurm")])
        path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
        slurm = {"SLURM_NNODES": "2", "SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "lt", "MASTER_ADDR": "127.0.0.1"}
        ended = subprocess.run(["bash", "-c", script], env=environment | slurm | {"PATH": path}, check=False)
        told = tmp_path / "told"
        return ended.returncode, told.read_text().splitlines() if told.exists() else []

    return run


def stand_in(tmp_path, code):
    """A `deitlt` that says which host it took itself for, and ends with a code."""
    return textwrap.dedent(f"""\
        #!{sys.executable}
        import os, sys
        from deitlt.engine.host_place import find_place
        hosts = next(int(word.partition("=")[2]) for word in sys.argv if word.startswith("trainer.num_nodes="))
        place = find_place(hosts, os.environ)
        with open({str(tmp_path / "told")!r}, "a") as file:
            at = f"{{place.address}}:{{place.port}}"
            file.write(f"host {{place.rank}} of {{place.hosts}} at {{at}} {{sys.argv[-1]}}\\n")
        sys.exit({code})
    """)


def test_the_script_requeues_a_job_that_was_stopped_and_no_other(batch, tmp_path):
    _, told = batch(stand_in(tmp_path, 75))
    assert sorted(told[:2]) == [f"host {rank} of 2 at 127.0.0.1:19711 resume=auto" for rank in (0, 1)]
    assert told[2:] == ["scontrol requeue 4711"]
    (tmp_path / "told").unlink()
    for code in (0, 1, 2):
        _, told = batch(stand_in(tmp_path, code))
        assert not [line for line in told if line.startswith("scontrol")]
