"""A run in words: what was trained, how, what came out, and what to type to see it again."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import Any, Final

from deitlt.reports.run_data import STAGES, RunData, dig, epochs_in_words
from deitlt.reports.runs import protocol_in_words

_STAGE_WORDS: Final = {"teacher": "teacher", "student": "student", "baseline": "plain ViT"}
_MACHINE: Final = {"cpu": "CPU", "gpu": "GPU", "cuda": "GPU", "mps": "Apple GPU"}
_PARTS: Final = {
    **{"attention_distance": "attention distance", "rank": "rank", "diversity": "diversity"},
    **{"winners": "winners", "calibration": "calibration"},
}
_MINUTE: Final = 60
_OWN_FOLDER: Final = ("paths.output_dir=", "+paths.output_dir=", "++paths.output_dir=")  # it holds a finished run


def trained_in_words(run: RunData) -> str:
    """What was trained, in a sentence or two; empty where the run kept no configuration."""
    recipes = {stage: dig(run.stages, stage, "recipe") or {} for stage in STAGES}
    trained = [stage for stage in STAGES if run.metrics.get(stage)]
    said = [words(recipes[stage]) for stage, words in _DESCRIBED.items() if stage in trained and recipes[stage]]
    if "student" in trained and "teacher" not in trained and dig(run.config, "teacher", "checkpoint"):
        said.append("Its teacher was given as a checkpoint.")
    return " ".join(said)


def results_in_words(runs: Sequence[RunData]) -> str:
    """What one experiment found, its numbers the means over its seeds; empty where it tells no story."""
    tails = {name: _mean(runs, part, token, "tail") for name, (part, token) in _ANSWERS.items()}
    known = {name: value for name, value in tails.items() if value is not None}
    if not known:
        return ""
    overall = [(n, v) for n, (p, t) in _ANSWERS.items() if (v := _mean(runs, p, t, "all")) is not None]
    return f"{_in_the_tail(known)}{_leaders(overall)}"


def _in_the_tail(known: Mapping[str, float]) -> str:
    """Who is right on how much of it, in order; numbers that are all shown alike have none."""
    if len(known) > 1 and len({f"{value:.1f}" for value in known.values()}) == 1:
        return f"In the tail {_listed([*known])} are equally right, on {max(known.values()):.1f} % of the images."
    best, *others = sorted(known.items(), key=lambda item: -item[1])
    beside = f", {_listed([f'{name} on {value:.1f} %' for name, value in others])}" if others else ""
    return f"In the tail {best[0]} is right on {best[1]:.1f} % of the images{beside}."


def _leaders(overall: Sequence[tuple[str, float]]) -> str:
    """Who leads over all images; numbers that are shown alike tie."""
    if not overall:
        return ""
    most = f"{max(value for _, value in overall):.1f}"
    first = [name for name, value in overall if f"{value:.1f}" == most]
    if len(overall) == 1:
        return f" Over all test images {first[0]} is right on {most} %."
    if len(first) == len(overall):
        return f" Over all test images {_listed(first)} are equal with {most} %."
    return f" Over all test images {_listed(first)} {'leads' if len(first) == 1 else 'lead'} with {most} %."


def measured_in_words(runs: Sequence[RunData]) -> str:
    """After how many epochs, and on what, the insides of an experiment's students were measured; empty where none was.

    Where the parts were measured on different images, as by an analysis of some of them, each is told.
    """
    named: dict[str, dict[str, None]] = {}
    for run in runs:
        samples, epochs = run.samples.get("student") or {}, run.epochs.get("student") or {}
        for part, words in _PARTS.items():
            if part in samples:
                after = f"after {epochs_in_words(epochs[part])} " if part in epochs else ""
                named.setdefault(f"{after}on {samples[part]}", {})[words] = None
    if len(named) == 1:
        return f"Measured {next(iter(named))}."
    return f"Measured {'; '.join(f'{where}: {_listed([*parts])}' for where, parts in named.items())}." if named else ""


def facts(run: RunData) -> dict[str, str]:
    """How the run was made: name -> words. What it did not write down is absent."""
    metrics, versions = run.metrics, run.metrics.get("versions") or {}
    found = {
        "Experiment": metrics.get("experiment"),
        "Method": metrics.get("method"),
        "Seed": None if metrics.get("seed") is None else str(metrics["seed"]),
        "Reported epoch": protocol_in_words(metrics.get("protocol")),
        "Time": "; ".join(f"{_STAGE_WORDS[s]} {_duration(t)}" for s, t in _seconds(metrics)),
        "Machine": "; ".join(dict.fromkeys(_machine(s["trainer"]) for s in run.stages.values() if s.get("trainer"))),
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return {name: str(words) for name, words in found.items() if words}


def commands(run: RunData) -> list[tuple[str, str]]:
    """(what it does, command) to train the run again, to measure its student, to analyse it, to make this page."""
    words = dig(run.config, "recipe", "overrides")
    folder = str(run.run.folder)
    found = []
    if words is not None:
        again = [str(word) for word in words if not str(word).startswith(_OWN_FOLDER)]
        found.append(("Train it again", _typed("train", *again)))
    elif run.metrics.get("experiment"):
        keys = [key for key in ("experiment", "method", "seed") if run.metrics.get(key) is not None]
        recipe = _typed("train", *(f"{key}={run.metrics[key]}" for key in keys))
        found.append(("Its recipe, without what the run changed in it", recipe))
    if run.metrics.get("student"):
        found.append(("Measure its student", _typed("evaluate", f"checkpoint={folder}")))
    if run.analyses:
        found.append(("Look inside it", _typed("analyze", f"checkpoint={folder}")))
    return [*found, ("Make its report", _typed("report", folder, "--html=report.html"))]


def _typed(verb: str, *words: str) -> str:
    return shlex.join(["deitlt", verb, *words])


_ANSWERS: Final = {
    **{"the teacher": ("teacher", ""), "CLS": ("student", "cls"), "DIST": ("student", "dist")},
    **{"AVG": ("student", "avg"), "the plain ViT": ("baseline", "cls")},
}


def _teacher(recipe: Mapping[str, Any]) -> str:
    loss = str(dig(recipe, "loss", "_target_") or "").rpartition(".")[2].removesuffix("Loss")
    sam = " and SAM" if dig(recipe, "sam", "enabled") else ""
    how = f" with the {loss} loss{sam}" if loss else sam.replace(" and", " with")
    return f"A teacher, {dig(recipe, 'model', 'name')}, was trained for {_epochs(recipe)}{how}."


def _student(recipe: Mapping[str, Any]) -> str:
    distils = dig(recipe, "distillation", "kind") not in (None, "none")
    kind = dig(recipe, "distillation", "kind")
    from_whom = f", whose DIST token learns the teacher's {kind} decisions" if distils else ", which nobody teaches"
    start = dig(recipe, "drw", "start_epoch")
    drw = f"; from epoch {start} on its loss is re-weighted for the tail" if start is not None else ""
    return f"A student, {_transformer(recipe)}{from_whom}, was trained for {_epochs(recipe)}{drw}."


def _baseline(recipe: Mapping[str, Any]) -> str:
    return f"Beside it a plain ViT of the same size was trained for {_epochs(recipe)}, without a teacher."


_DESCRIBED: Final = {"teacher": _teacher, "student": _student, "baseline": _baseline}


def _epochs(recipe: Mapping[str, Any]) -> str:
    return epochs_in_words(recipe["epochs"]) if "epochs" in recipe else "an unknown number of epochs"


def _transformer(recipe: Mapping[str, Any]) -> str:
    """'deit_tiny_patch16_224 (depth 4, width 64, patches of 4 pixels, images of 16)'."""
    model = recipe.get("model") or {}
    parts = [f"{key} {model[key]}" for key in ("depth", "width") if model.get(key)]
    parts += [f"patches of {model['patch_size']} pixels"] if model.get("patch_size") else []
    parts += [f"images of {model['image_size']}"] if model.get("image_size") else []
    return f"{model.get('name')} ({', '.join(parts)})" if parts else str(model.get("name"))


def _seconds(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for stage, seconds in (metrics.get("seconds") or {}).items():
        if stage in _STAGE_WORDS and seconds is not None:
            yield stage, float(seconds)


def _duration(seconds: float) -> str:
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    minutes = seconds / _MINUTE
    return f"{minutes:.0f} min" if minutes < 2 * _MINUTE else f"{minutes / _MINUTE:.1f} h"


def _machine(trainer: Mapping[str, Any]) -> str:
    accelerator = str(trainer.get("accelerator"))
    return f"{trainer.get('devices') or 1} {_MACHINE.get(accelerator, accelerator)}, {trainer.get('precision')}"


def _mean(runs: Sequence[RunData], part: str, token: str, group: str) -> float | None:
    found = [run.accuracy(part, token, group) for run in runs]
    values = [value for value in found if value is not None]
    return mean(values) if values else None


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
