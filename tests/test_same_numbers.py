"""A re-cut of the code changes no number: weights, losses and metrics of small runs against recorded ones.

Record on the commit before the step, then compare on each commit after it, on the same machine:

    DEITLT_SAME_NUMBERS=FOLDER pytest -m slow tests/test_same_numbers.py

A folder without a record of a run gets one. Nothing of it is committed: the numbers are one machine's.
"""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

FOLDER = os.environ.get("DEITLT_SAME_NUMBERS")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(FOLDER is None, reason="type DEITLT_SAME_NUMBERS=FOLDER to compare with a record there"),
]

SHORT = [
    *("teacher.epochs=4", "teacher.drw.start_epoch=3", "teacher.schedule.factors=[[2,0.1],[3,0.01]]"),
    *("student.epochs=6", "student.drw.start_epoch=4", "evaluate_every=2", "report=false"),
]
RUNS = {
    "one_rank": ["experiment=demo", *SHORT],
    "two_ranks": ["experiment=demo", "trainer=ddp", "trainer.accelerator=cpu", "analysis.every=null", *SHORT],
    # PaCo, accumulation, batch transforms, a validation split, soft distillation, balanced softmax, a best epoch
    "paco": [
        *("experiment=digits_paco", "student/transforms=batch_small", "student/distillation=soft", "protocol=val"),
        *("data.val_fraction=0.2", "student.batch_size=16", "teacher.batch_size=32", "analysis.every=null"),
        *("student/loss=balanced_softmax", "student/sam=constant", "student.sam.rho.value=0.05"),
        *(word for word in SHORT if "teacher.drw" not in word),
    ],
}
RANDOM = ("seconds", "images_per_second", "first_step_seconds")  # what is measured of the machine


def _start(folder: Path, words: list[str]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    command = [sys.executable, "-m", "deitlt", "train", *words]
    log = (folder.parent / f"{folder.name}.log").open("ab")
    return subprocess.Popen(command, env=environment, cwd=folder.parent, stdout=log, stderr=log)


def _train(folder: Path, words: list[str]) -> None:
    process = _start(folder, words)
    said = folder.parent / f"{folder.name}.log"
    assert process.wait(timeout=900) == 0, said.read_text()[-3000:]


def _weights(run: Path) -> dict[str, torch.Tensor]:
    found = {}
    for checkpoint in sorted(run.glob("*/last.ckpt")):
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        found |= {f"{checkpoint.parent.name}/{name}": value for name, value in state.items()}
    return found


def _rows(run: Path) -> dict[str, float]:
    """What each stage logged, by stage, epoch and name."""
    found = {}
    for file in sorted(run.glob("*/metrics.csv")):
        for row in csv.DictReader(file.open()):
            for name, value in row.items():
                if value and name.split("/")[0] in ("train", "val", "test") and not name.endswith(RANDOM):
                    found[f"{file.parent.name}/{row['epoch']}/{name}"] = float(value)
    return found


def _metrics(run: Path) -> dict[str, object]:
    content = json.loads((run / "metrics.json").read_text())
    for key in ("seconds", "versions", "checkpoints", "recipe_differences"):
        content.pop(key, None)
    return content


def _keep(run: Path, record: Path) -> None:
    record.mkdir(parents=True)
    torch.save(_weights(run), record / "weights.pt")
    (record / "rows.json").write_text(json.dumps(_rows(run), indent=1))
    (record / "metrics.json").write_text(json.dumps(_metrics(run), indent=1))


def _compare(run: Path, record: Path) -> None:
    weights, rows = _weights(run), _rows(run)
    recorded = torch.load(record / "weights.pt", weights_only=True)
    assert weights.keys() == recorded.keys()
    other = [name for name, value in recorded.items() if not torch.equal(value, weights[name])]
    wanted = json.loads((record / "rows.json").read_text())
    lines = [f"{name}: {value} was {wanted[name]}" for name, value in rows.items() if wanted.get(name, value) != value]
    assert (other, lines[:10]) == ([], []), f"{len(other)} of {len(weights)} tensors differ"
    assert wanted.keys() <= rows.keys(), sorted(wanted.keys() - rows.keys())[:10]
    assert _metrics(run) == json.loads((record / "metrics.json").read_text())


@pytest.mark.parametrize("name", list(RUNS))
def test_a_run_gives_the_numbers_that_were_recorded(name, tmp_path):
    assert FOLDER is not None
    run, record = tmp_path / name, Path(FOLDER) / name
    _train(run, [f"paths.output_dir={run}", *RUNS[name]])
    if record.exists():
        _compare(run, record)
    else:
        _keep(run, record)


@pytest.mark.parametrize("name", ["one_rank", "two_ranks"])
def test_a_run_that_was_killed_and_resumed_gives_the_same_numbers(name, tmp_path):
    assert FOLDER is not None
    run, record = tmp_path / name, Path(FOLDER) / name
    if not record.exists():
        pytest.skip("the run was never recorded")
    words = [f"paths.output_dir={run}", "resume=auto", *RUNS[name]]
    process = _start(run, words)
    deadline = time.monotonic() + 600
    while not (run / "student" / "last.ckpt").exists() and time.monotonic() < deadline:
        assert process.poll() is None, (tmp_path / f"{name}.log").read_text()[-3000:]
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(3)  # for the other ranks to notice
    assert not (run / "metrics.json").exists()
    _train(run, words)
    _compare(run, record)
    shutil.rmtree(run)
