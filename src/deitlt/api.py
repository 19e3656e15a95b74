"""deitlt from Python: what the verbs do, with objects in place of words and printed tables."""

import base64
import importlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from PIL import Image
from rich.console import Console
from torch import Tensor, nn

from deitlt.checkpoints import ModelSpec, TrainedNetwork, find_checkpoint, load_trained
from deitlt.cli import HYDRA_VERBS, admit, perform, wait_politely
from deitlt.commands.inspect import look
from deitlt.config.checks import check_overrides, explain, is_group
from deitlt.config.compose import quoted, run_hydra
from deitlt.config.trust import for_this_call
from deitlt.config.trust import trust as let_call
from deitlt.data.images import decode
from deitlt.engine.run_folder import PICTURE, RunFolder
from deitlt.engine.trained import as_row, image_files, open_trained, probabilities
from deitlt.errors import ConfigError
from deitlt.models import count_parameters
from deitlt.reports.runs import PAGE, Run, accuracy_rows, read_runs
from deitlt.reports.tables import Table, data_name, markdown, results_table, terminal
from deitlt.transforms import evaluation_transform

Picture: TypeAlias = str | Path | Image.Image
Images: TypeAlias = Picture | Tensor | Sequence[Picture]
_SHOWN = 10  # predictions in a terminal


@dataclass(frozen=True, repr=False)
class Result:
    """A finished run or evaluation: its folder, and what it found.

    In a notebook it shows its table and its picture by class. trusted: the modules that its call was told to trust.
    """

    folder: Path
    trusted: Sequence[str] = ()

    @property
    def run(self) -> Run:
        """All that its folder says, as `deitlt report` reads it."""
        (run,) = read_runs([self.folder])
        return run

    @property
    def metrics(self) -> Mapping[str, Any]:
        """What metrics.json holds: accuracies in percent, by part, token and group."""
        return self.run.metrics

    @property
    def page(self) -> Path:
        """The run's report."""
        return self.folder / PAGE

    def load(self, stage: str | None = None, *, ema: bool = False) -> "Model":
        """The network of a stage; None: of the student, or what there is."""
        return load(self.folder, stage=stage, ema=ema, trust=self.trusted)

    def to_pandas(self) -> Any:
        """A pandas.DataFrame, a row an answer: part, token, and its accuracies in percent."""
        rows = [{"part": row.part, "token": row.token, **row.accuracy} for row in accuracy_rows(self.metrics)]
        return _frame(rows)

    def __repr__(self) -> str:
        return f"{_text(self._table)}{self.folder}"

    def _repr_markdown_(self) -> str:
        picture = self.folder / PICTURE
        lines = [*markdown(self._table), "", f"`{self.folder}`", ""]
        if picture.exists():
            lines.append(_embedded([picture]))
        return "\n".join(lines)

    @property
    def _table(self) -> Table:
        return results_table(self.metrics, data_name(self.metrics))


@dataclass(frozen=True, repr=False)
class Inspection:
    """What training would see: the images of each class, and pictures of them; a notebook shows both."""

    table: Table
    pictures: Sequence[Path]

    def to_pandas(self) -> Any:
        """A pandas.DataFrame, a row a class."""
        cells = [[row.label, *map(str, row.cells)] for row in self.table.rows]
        return _frame([dict(zip(self.table.columns, line, strict=True)) for line in cells])

    def __repr__(self) -> str:
        return _text(self.table) + "\n".join(map(str, self.pictures))

    def _repr_markdown_(self) -> str:
        return "\n".join([*markdown(self.table), "", _embedded(self.pictures)])


@dataclass(frozen=True, repr=False)
class Predictions:
    """What a model says of N images.

    names: of the images, files or their numbers. probabilities: token, of 'cls', 'dist' and 'avg' those that there are
    -> [N, C], in the order of the model's classes.
    """

    names: Sequence[str]
    probabilities: Mapping[str, Tensor]
    spec: ModelSpec

    @property
    def classes(self) -> list[str]:
        """[N], by the mean of the tokens' logits, or by the only token."""
        *_, decisive = self.probabilities.values()
        return [self.spec.class_names[int(found)] for found in decisive.argmax(dim=1)]

    def rows(self, top: int = 3) -> list[dict[str, str]]:
        """The rows that `deitlt predict` writes: the class of an image, and the `top` likeliest ones of each token."""
        return [
            as_row(name, {token: found[i] for token, found in self.probabilities.items()}, self.spec, top)
            for i, name in enumerate(self.names)
        ]

    def to_pandas(self, top: int = 3) -> Any:
        """The same as a pandas.DataFrame."""
        return _frame([{key: _number(key, value) for key, value in row.items()} for row in self.rows(top)])

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        shown = [f"{row['file']}: {row['class']} ({float(row['probability']):.0%})" for row in self.rows(1)[:_SHOWN]]
        return "\n".join([*shown, *([f"... {len(self)} images in all"] if len(self) > _SHOWN else [])])


@dataclass(frozen=True, repr=False)
class Model:
    """A trained network, ready to be asked.

    trained: it, with what its checkpoint says. trusted: the modules that `load` was told to trust.
    """

    trained: TrainedNetwork
    trusted: Sequence[str] = ()

    @property
    def network(self) -> nn.Module:
        """In evaluation mode: images [B, 3, H, W], normalised -> a teacher's logits, or a student's `TokenLogits`."""
        return self.trained.network

    @property
    def classes(self) -> list[str]:
        """Their names, in the order of the logits."""
        return list(self.trained.spec.class_names)

    @property
    def transform(self) -> Callable[[Image.Image], Tensor]:
        """A picture -> [3, H, W], as the network takes it."""
        spec = self.trained.spec
        return evaluation_transform(spec.image_size, spec.normalisation, spec.crop_share)

    def predict(self, images: Images, batch_size: int = 250) -> Predictions:
        """Say which classes images are of.

        Args:
            images: a folder, searched to the bottom, a file, a picture, a list of files or pictures, or a tensor
                [B, 3, H, W] that is transformed already.
            batch_size: images at once.

        Raises:
            DataError: there is no image, or one cannot be decoded.
        """
        if isinstance(images, Tensor):
            names, batches = [str(i) for i in range(len(images))], iter(torch.split(images, batch_size))
        else:
            listed = _listed(images)
            names = [str(i) if isinstance(one, Image.Image) else str(one) for i, one in enumerate(listed)]
            batches = self._batches(listed, batch_size)
        asked = [probabilities(self.trained, batch) for batch in batches]
        found = {token: torch.cat([one[token] for one in asked]) for token in asked[0]}
        return Predictions(names, found, self.trained.spec)

    def evaluate(self, *words: str, out: str | Path | None = None, **choices: Any) -> Result:
        """Measure its checkpoint, as `deitlt.evaluate` does."""
        return evaluate(self.trained.path, *words, out=out, **_trusting(self.trusted), **choices)

    def _batches(self, images: Sequence[Picture], batch_size: int) -> Iterator[Tensor]:
        transform = self.transform
        for start in range(0, len(images), batch_size):
            some = images[start : start + batch_size]
            pictures = [one.convert("RGB") if isinstance(one, Image.Image) else decode(str(one)) for one in some]
            yield torch.stack([transform(picture) for picture in pictures])

    def __repr__(self) -> str:
        spec, size = self.trained.spec, count_parameters(self.network)
        return (
            f"{spec.kind} {spec.model.get('name')} of {self.trained.path}: {size / 1e6:.3g} million parameters, images "
            f"of {spec.image_size} pixels, {len(spec.class_names)} classes"
        )


@for_this_call()
def train(*words: str, out: str | Path | None = None, config_dir: str | Path | None = None, **choices: Any) -> Result:
    """Train a teacher, a student, or what is chosen, as `deitlt train` does.

    ``train(experiment="digits", student={"epochs": 75}, out="run")`` is ``deitlt train experiment=digits
    student.epochs=75 paths.output_dir=run``.

    Args:
        *words: overrides as on the command line, such as "student/transforms=batch_small".
        out: the run's folder; None: one that is named by the time.
        config_dir: a folder of your own configurations and modules, --config-dir on the command line.
        **choices: the same overrides as arguments; a dict holds the keys below a key.

    Raises:
        ConfigError: a key or value is wrong; other `UserError`s say what else cannot be done.
    """
    return Result(*_perform("train", [*_own(config_dir), *words, *as_words(choices), *_place(out)]))


@for_this_call()
def evaluate(checkpoint: str | Path, *words: str, out: str | Path | None = None, **choices: Any) -> Result:
    """Measure a checkpoint on its test set, as `deitlt evaluate` does.

    Args:
        checkpoint: a file, or a run's folder.
        *words: overrides as on the command line, such as "stage=teacher".
        out: the evaluation's folder; None: one that is named by the time.
        **choices: the same overrides as arguments.
    """
    chosen = {"checkpoint": str(checkpoint), **choices}
    return Result(*_perform("evaluate", [*words, *as_words(chosen), *_place(out)]))


@for_this_call()
def inspect(
    *words: str, out: str | Path | None = None, config_dir: str | Path | None = None, **choices: Any
) -> Inspection:
    """Look at the files as `train` does, and draw what the networks would see, as `deitlt inspect` does.

    Args:
        *words: overrides of `train`, as on the command line.
        out: the folder of the pictures; None: one that is named by the time.
        config_dir: a folder of your own configurations and modules.
        **choices: the same overrides as arguments.
    """
    found: list[Inspection] = []
    console = Console(file=io.StringIO())  # what is returned need not be printed

    def task(config: DictConfig) -> None:
        found.append(Inspection(*look(config, console)))

    _perform("inspect", [*_own(config_dir), *words, *as_words(choices), *_place(out)], task)
    return found[0]


@for_this_call()
def load(
    source: str | Path,
    *words: str,
    stage: str | None = None,
    ema: bool = False,
    device: str | torch.device = "cpu",
    trust: Sequence[str] = (),
    **choices: Any,
) -> Model:
    """A trained network.

    Args:
        source: a run's folder, an exported one, a model on the Hub as "hf://USER/NAME", or a checkpoint, also of the
            authors or of timm.
        *words: overrides of `deitlt evaluate`, for a file that does not say what its data are, such as
            "experiment=cifar10_lt_if100" and "data_root=FOLDER".
        stage: 'student' or 'teacher' of a run; None: the student, or what there is.
        ema: of a student, the moving average of the weights.
        device: where it lies.
        trust: modules of your own that it may be made of; as elsewhere, no other call trusts them for that.
        **choices: the same overrides as arguments.

    Raises:
        CheckpointError: the file is missing, unsafe or broken, or says too little of itself.
    """
    path = find_checkpoint(source, ("student", "teacher") if stage is None else (stage,), "stage")
    if not (words or choices):
        let_call(trust)
        return Model(load_trained(path, ema, torch.device(device)), trust)
    found: list[TrainedNetwork] = []

    def task(config: DictConfig) -> None:
        found.append(open_trained(config, path, ema, accelerator="cpu"))

    chosen = {"checkpoint": str(path), **_trusting(trust), **choices}
    _, trusted = _perform("evaluate", [*as_words(chosen), *words], task)
    found[0].network.to(device)
    return Model(replace(found[0], device=torch.device(device)), trusted)


def as_words(choices: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Overrides of the command line: {"data": {"root": "x"}} -> ["data.root='x'"]; a choice's name chooses it."""
    words: list[str] = []
    for name, value in choices.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            words += as_words(value, f"{key}.")
        elif isinstance(value, str) and is_group(group := key.replace(".", "/")):
            words.append(f"{group}={value}")
        else:
            words.append(f"{key}={_literal(value)}")
    return words


def _literal(value: Any) -> str:
    """A value as Hydra reads it back."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_literal, value))}]"
    return quoted(value)


def _place(out: str | Path | None) -> list[str]:
    return [] if out is None else [f"paths.output_dir={quoted(out)}"]


def _own(config_dir: str | Path | None) -> list[str]:
    return [] if config_dir is None else ["--config-dir", str(config_dir)]


def _trusting(modules: Sequence[str]) -> dict[str, list[str]]:
    return {"trust": list(modules)} if modules else {}


def _perform(
    verb: str, words: list[str], task: Callable[[DictConfig], object] | None = None
) -> tuple[Path, Sequence[str]]:
    """Do what a verb does, or `task` with its configuration; the folder that it wrote into, and what it trusts."""
    if flags := [word for word in words if word.startswith("-") and word != "--config-dir"]:
        raise ConfigError(f"{flags[0]} is of the command line; type deitlt {verb} {' '.join(flags)} ... in a terminal.")
    wait_politely()
    name, _ = HYDRA_VERBS[verb]
    done: list[tuple[Path, Sequence[str]]] = []

    def seen(config: DictConfig) -> None:
        done.append((RunFolder.of_job(config).path, list(config.trust)))
        if task is None:
            perform(verb, name, config)
        else:
            admit(config, name)
            task(config)

    try:
        check_overrides(words, name, sweeps=False)
        run_hydra(verb, name, words, seen)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, name, words)) from error
    return done[0]


def _listed(images: Picture | Sequence[Picture]) -> Sequence[Picture]:
    if isinstance(images, Image.Image):
        return [images]
    if isinstance(images, str | Path):
        return image_files(Path(images).expanduser(), "error")[0]
    return images


def _text(table: Table) -> str:
    """It as a terminal shows it."""
    console = Console(file=io.StringIO(), width=100)
    console.print(terminal(table))
    shown = console.file
    assert isinstance(shown, io.StringIO)
    return shown.getvalue()


def _embedded(pictures: Iterable[Path]) -> str:
    """Pictures as Markdown that holds them, as notebooks show it."""
    return "\n\n".join(
        f"![{file.stem}](data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()})" for file in pictures
    )


def _number(key: str, value: str) -> str | float:
    return float(value) if key.endswith("probability") else value


def _frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    try:
        pandas = importlib.import_module("pandas")
    except ImportError as error:
        raise ConfigError("to_pandas() needs pandas, which is not installed; type pip install pandas.") from error
    return pandas.DataFrame(rows)
