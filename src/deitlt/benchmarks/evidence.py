"""What one GPU shows in twelve minutes: `python -m deitlt.benchmarks.evidence FOLDER [OVERRIDES]`, `make evidence-gpu`.

The recipe of ten minutes is trained, its checkpoints are evaluated again, speed is measured, each by the command itself
in a process of its own that is stopped when its time is up. What does not fit is left out, and that is written.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deitlt.benchmarks.machine import machine
from deitlt.benchmarks.training import training_table
from deitlt.engine.run_folder import write_json, write_text
from deitlt.errors import FAILED, OK, USER_ERROR
from deitlt.reports.tables import data_name, markdown, results_table

Plain = dict[str, Any]
COMMAND = (sys.executable, "-m", "deitlt")
# Of each class a tenth is held out, for the fusions are fitted on it.
RECIPE = ("experiment=cifar10_gpu_10min", "data.val_fraction=0.1", "trainer.grace=10")
STAGES = ("teacher", "student")
TRAIN, EVALUATE = 600.0, 45.0  # seconds that training, and the evaluation of one checkpoint, may take
LEAST = 20.0  # seconds below which nothing is begun
GRACE = 30.0  # seconds from the request to end until the end
# What docs/speed.md lists of a GPU, the most wanted first; each has what time is left.
SPEED = {
    "recipe": (
        "experiment=cifar10_gpu_10min",
        "training.measured=[sam_teacher,student]",
        "generated=50000",
        "repeats=3",
    ),
    "paper": ("experiment=cifar10_lt_if100", "training.measured=[student]", "generated=50000", "repeats=3"),
    "no_graphs": (
        *("experiment=cifar10_gpu_10min", "training.measured=[sam_teacher]", "generated=50000", "repeats=3"),
        "trainer.compile=true",
    ),
}


class Parts:
    """Commands that share a time.

    Args:
        seconds: that they have together.
    """

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.done: dict[str, Plain] = {}

    def run(self, name: str, words: Sequence[str], limit: float = float("inf")) -> bool:
        """Run one command to its end, or to the end of its time; whether it succeeded."""
        began = time.monotonic()
        limit = min(limit, self.end - began)
        told: Plain = {"command": " ".join(["deitlt", *map(_without_folder, words)])}
        if limit < LEAST:
            self.done[name] = {**told, "left_out": "no time was left"}
            return False
        process = subprocess.Popen([*COMMAND, *words])
        try:
            told["exit_code"] = process.wait(limit)
        except subprocess.TimeoutExpired:
            told["left_out"] = f"stopped after its {limit:.0f} s"
            process.terminate()  # a training ends with its epoch, and goes on when the same is typed again
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.done[name] = {**told, "seconds": round(time.monotonic() - began, 1)}
        return told.get("exit_code") == OK


def main(argv: Sequence[str] | None = None) -> int:
    """Train, evaluate and measure; write evidence.json and evidence.md into the folder.

    Returns:
        0; 2 where the training was refused, which it has said itself; 1 where it failed or did not end in time.
    """
    parser = argparse.ArgumentParser(prog="python -m deitlt.benchmarks.evidence", description=__doc__)
    parser.add_argument(
        "folder", type=Path, help="for evidence.json, evidence.md, and run/, which goes on if it was begun"
    )
    parser.add_argument("overrides", nargs="*", help="of deitlt train, such as data=folder data.root=FOLDER")
    parser.add_argument("--minutes", type=float, default=12.0, help="for all of it")
    asked = parser.parse_intermixed_args(argv)
    parts, run = Parts(60 * asked.minutes), asked.folder / "run"
    words = merged(RECIPE, asked.overrides)
    is_trained = parts.run("train", ["train", "resume=auto", f"paths.output_dir={run}", *words], TRAIN)
    if parts.done["train"].get("exit_code") == USER_ERROR:
        return USER_ERROR
    metrics = json.loads((run / "metrics.json").read_text()) if is_trained else None
    found: Plain = {
        "overrides": [_without_folder(word) for word in words],
        "minutes": asked.minutes,
        "machine": machine(),
    }
    with tempfile.TemporaryDirectory(prefix="deitlt-evidence-") as work:
        found["evaluated"] = {} if metrics is None else _evaluate(parts, run, metrics, Path(work))
        found["speed"] = _measure(parts, asked.overrides, Path(work))
    found["run"] = None if metrics is None else {key: metrics[key] for key in metrics if key != "checkpoints"}
    found["parts"] = parts.done
    asked.folder.mkdir(parents=True, exist_ok=True)
    write_json(asked.folder / "evidence.json", found)
    write_text(asked.folder / "evidence.md", page(found))
    sys.stdout.write(f"{page(found)}\nmore: {asked.folder / 'evidence.json'}\n")
    return OK if is_trained else FAILED


def merged(recipe: Iterable[str], overrides: Iterable[str]) -> list[str]:
    """Overrides of which the later ones of a key take the earlier one's place."""
    return list({word.partition("=")[0]: word for word in (*recipe, *overrides)}.values())


def _without_folder(word: str) -> str:
    """An override as it is written down: where files lie on this machine is nobody else's matter."""
    key, _, value = word.partition("=")
    return f"{key}=FOLDER" if key in ("data.root", "paths.output_dir", "checkpoint", "output") and value else word


def _evaluate(parts: Parts, run: Path, metrics: Plain, work: Path) -> Plain:
    """Each stage's checkpoint, measured again: whether the digits are the run's, and by how much they differ."""
    found: Plain = {}
    for stage in STAGES:
        place = work / stage
        words = ["evaluate", f"checkpoint={run}", f"stage={stage}", f"paths.output_dir={place}"]
        if stage in metrics and parts.run(f"evaluate {stage}", words, EVALUATE):
            again = json.loads((place / "metrics.json").read_text())[stage]
            found[stage] = compared(metrics[stage], again)
    return found


def compared(first: Plain, second: Plain) -> Plain:
    """Accuracies, by name or by token and name, that both have: whether they are equal, and the largest difference."""
    flat = [dict(_flat(one)) for one in (first, second)]
    both = flat[0].keys() & flat[1].keys()
    largest = max((abs(flat[0][name] - flat[1][name]) for name in both), default=None)
    return {"numbers": len(both), "equal": largest == 0, "largest_difference": largest}


def _flat(node: Plain, prefix: str = "") -> Iterable[tuple[str, float]]:
    for name, value in node.items():
        if isinstance(value, Mapping):
            yield from _flat(dict(value), f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def _measure(parts: Parts, overrides: Iterable[str], work: Path) -> Plain:
    """The benchmarks, of generated images: what was typed of the data is left out."""
    others = [word for word in overrides if not word.startswith(("data.", "data=", "data/"))]
    found: Plain = {}
    for name, words in SPEED.items():
        output = work / f"{name}.json"
        if parts.run(f"speed {name}", ["benchmark", *merged(words, others), f"output={output}"]):
            found[name] = {key: value for key, value in json.loads(output.read_text()).items() if key != "machine"}
    return found


def page(found: Plain) -> str:
    """All of it as Markdown tables."""
    on = found["machine"]
    device = on["gpus"][0]["name"] if on["gpus"] else on["cpu"]
    versions = ", ".join(f"{name} {on[name]}" for name in ("python", "torch", "torchvision", "timm", "lightning"))
    lines = [
        f"# {device}",
        "",
        f"{versions}, CUDA {on['cuda'] or 'none'}; deitlt train {' '.join(found['overrides'])}",
        "",
    ]
    if (run := found["run"]) is not None:
        lines += [*markdown(results_table(run, data_name(run))), ""]
    rows = [["part", "seconds", ""]]
    for name, part in found["parts"].items():
        code = part.get("exit_code")
        rows.append(
            [name, str(part.get("seconds", "-")), part.get("left_out") or ("" if code == OK else f"failed: {code}")]
        )
    rows += [
        [f"training of the {stage}", str(taken), ""] for stage, taken in ((run or {}).get("seconds") or {}).items()
    ]
    for stage, told in found["evaluated"].items():
        said = "equal" if told["equal"] else f"differ by {told['largest_difference']:.2g} at most"
        rows.append([f"{stage} evaluated again", "", f"{told['numbers']} numbers, {said}"])
    lines += [*_table(rows), ""]
    for name, speed in found["speed"].items():
        lines += [
            f"Speed, {name}: `{found['parts'][f'speed {name}']['command']}`",
            "",
            *_table(training_table(speed)),
            "",
        ]
    return "\n".join(lines)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    header, *rest = (f"| {' | '.join(row)} |" for row in rows)
    return [header, f"| --- |{' ---: |' * (len(rows[0]) - 1)}", *rest]


if __name__ == "__main__":
    sys.exit(main())
