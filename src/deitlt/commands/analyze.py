"""`deitlt analyze`: what trained networks have become, as numbers, a table and pictures."""

import csv
import io
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from deitlt.analysis import finite, numbers
from deitlt.commands.evaluate import open_data
from deitlt.data import LongTailDataModule
from deitlt.engine.analysis_joining import fingerprint, in_words, joined, kept_pictures, read_earlier, same_network
from deitlt.engine.analysis_logging import log_analysis, say_how_to_upload
from deitlt.engine.analysis_parts import measure_parts, rollout_examples, split_of
from deitlt.engine.analysis_pictures import FOLDER, draw_analysis
from deitlt.engine.analysis_subjects import ALL, PARTS, Subject, check_parts, find_subjects
from deitlt.engine.run_folder import write_json, write_text
from deitlt.errors import ConfigError
from deitlt.reports.analysis_table import analysis_lines, analysis_table
from deitlt.reports.samples import Sample, samples_of

Plain = dict[str, Any]
JSON, CSV = "analysis.json", "analysis.csv"


def main(config: DictConfig) -> None:
    """Analyse each network of a run, or one checkpoint; write its JSON, CSV and pictures, print a table."""
    console = Console()
    subjects = find_subjects(config)
    given = [config.parts] if isinstance(config.parts, str) else list(config.parts)
    parts = [part for part in PARTS if part in given or ALL in given]
    if ALL not in given:
        check_parts(parts, subjects)
    if config.images != ALL and not isinstance(config.images, int):
        raise ConfigError(f"images={config.images} is no number; type images=1000, say, or images=all.")
    opened = [(subject, open_data(config, subject.trained.card)) for subject in subjects]
    for _, datamodule in opened:
        split_of(datamodule, config.split)  # before the first network is measured for an hour
    for subject, datamodule in opened:
        if ALL in given:
            _say_what_is_left_out(subject, console)
        _analyse(subject, datamodule, parts, config, console)
    if config.logger.wandb is not None:
        say_how_to_upload(subjects, console)


def _analyse(
    subject: Subject, datamodule: LongTailDataModule, parts: list[str], config: DictConfig, console: Console
) -> None:
    trained = subject.trained.in_order_of(datamodule.info)
    subject = Subject(subject.name, trained, subject.stage, subject.folder)
    measured = measure_parts(subject, datamodule, parts, config)
    unranked = measured.get("images") == 1 and measured.pop("rank", None) is not None
    analysis: Plain = finite(measured) | {"of": fingerprint(trained.path, config)}
    draws_rollouts = "rollout" in parts and "rollout" not in subject.lacks
    chosen = rollout_examples(trained, datamodule, config.split, config.rollout.images) if draws_rollouts else []
    rollouts = [example for example in chosen if example is not None]
    lost = [part for part, content in measured.items() if part not in analysis or analysis[part] != content]
    _say_what_is_not_finite([*lost, *(["rollout"] if None in chosen else [])], subject, console)
    earlier = read_earlier(subject.folder / JSON)
    together = joined(earlier, analysis, parts)
    title = f"{datamodule.spec.name}, {subject.name}"
    kept = kept_pictures(parts) if not earlier or same_network(earlier, analysis) else ()
    pictures = draw_analysis(together, datamodule.info, rollouts, subject.folder / FOLDER, title, kept)
    write_json(subject.folder / JSON, together)
    write_text(subject.folder / CSV, as_csv(together))
    said = [f"{subject.name}: no rank, for one image has none; type images=2 or more"] if unranked else []
    said += [f"{subject.name}: {words}"] if (words := in_words(earlier, analysis, together)) else []
    _tell(analysis, title, said, console)
    place = subject.folder
    more = f"more: {place / JSON}, {place / CSV}, {len(pictures)} pictures in {place / FOLDER}"
    console.print(more, highlight=False, soft_wrap=True, markup=False)
    if config.logger.wandb is not None:
        log_analysis(analysis, subject, config.logger.wandb)


def _tell(analysis: Plain, title: str, said: list[str], console: Console) -> None:
    """Print what was measured now, what else there is to say, and the seconds that it took."""
    seen = f"{title}: {Sample(analysis['split'], analysis['images'])}" if "images" in analysis else title
    if (table := analysis_table(analysis, seen)) is not None:
        console.print(table)
    seconds = ", ".join(f"{part} {value:.1f}" for part, value in analysis["seconds"].items())
    for line in [*analysis_lines(analysis), *said, f"seconds: {seconds or 'none'}"]:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def as_csv(analysis: Plain) -> str:
    """A row for each number, in the long form that data frames like; what does not apply is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["part", "token", "block", "head", "group", "value", "split", "images"])
    samples = samples_of(analysis)
    for number in numbers(analysis):
        part = "winners" if number.part == "recall" else number.part.partition("/")[0]
        row = [*number, *samples.get(part, Sample(None, None))]
        writer.writerow(["" if value is None else value for value in row])
    return text.getvalue()


def _say_what_is_left_out(subject: Subject, console: Console) -> None:
    """One line for what a student might be expected to have, and has not."""
    if subject.trained.card.kind == "teacher" or not subject.lacks:
        return
    reasons: dict[str, list[str]] = {}
    for part, reason in subject.lacks.items():
        reasons.setdefault(reason, []).append(part)
    said = "; ".join(f"no {' and '.join(parts)}, for {reason}" for reason, parts in reasons.items())
    console.print(f"{subject.name}: {said}", highlight=False, soft_wrap=True, markup=False)


def _say_what_is_not_finite(parts: list[str], subject: Subject, console: Console) -> None:
    """One line for the parts that have lost a number, which is NaN or infinite."""
    if parts:
        said = f"{subject.name}: what is NaN or infinite is left out of {', '.join(parts)}; look at the run's losses."
        console.print(said, style="yellow", highlight=False, soft_wrap=True, markup=False)
