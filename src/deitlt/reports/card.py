"""The model card of an exported network: what it is, how good, how it was trained, how it is used, its licence."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from deitlt.checkpoints import ModelSpec
from deitlt.checkpoints.export import without_folders
from deitlt.config.compose import in_typed_words
from deitlt.reports.runs import Run, dig, network_in_words, protocols_in_words, read_runs
from deitlt.reports.tables import data_name, group_sizes_line, markdown, results_table

_NOT_SAID = ("paths.", "logger", "hydra.", "report=")  # of the words typed: where things went
_CLASSES = 20  # named in the card; config.json has all


@dataclass(frozen=True)
class Card:
    """What a model card is made of.

    spec: what the network's checkpoint says. file: that, in its run's folder, if it lies there. ema: whether the
    network is the moving average. model: USER/NAME on the Hub; None where it has no name. license: its identifier
    there; None where nobody said it. no_timm: what timm cannot make of the network; None where it can make it.
    """

    spec: ModelSpec
    file: Path
    ema: bool = False
    model: str | None = None
    license: str | None = None
    no_timm: str | None = None

    def text(self) -> str:
        """The whole of README.md."""
        readers = ["deitlt"] if self.no_timm else ["timm", "deitlt"]
        about = {
            "license": self.license or "unknown",
            "library_name": readers[0],
            "pipeline_tag": "image-classification",
            "tags": ["image-classification", "long-tailed", *readers],
        }
        run = _run_of(self.file)
        name = self.model.rpartition("/")[2] if self.model else f"{self._stage(run)} of {self.spec.data['name']}"
        lines = ["---", yaml.safe_dump(about, sort_keys=False).rstrip(), "---", "", f"# {name}", ""]
        lines += [*self._network(), "", "## Accuracy", "", *self._accuracies(run), "", "## How it was trained", ""]
        lines += [*_training(run), "", "## How it is used", "", *self._use(), "", "## Licence", "", self._rights(), ""]
        return "\n".join(lines)

    def _stage(self, run: Run | None) -> str:
        return self.spec.kind if run is None else self.file.parent.name

    def _network(self) -> Sequence[str]:
        """What it is, and what it knows."""
        spec = self.spec
        is_student = spec.kind == "student"
        what = "A vision transformer" if is_student else "The network that taught a vision transformer"
        network = network_in_words({"model": {"_target_": spec.target, **spec.model, "image_size": spec.image_size}})
        average = ", the moving average of its weights" if self.ema else ""
        names = ", ".join(spec.class_names[:_CLASSES]) + (", ..." if spec.class_names[_CLASSES:] else "")
        images = f"{sum(spec.counts):,} training images, {max(spec.counts):,} to {min(spec.counts):,} a class"
        return [
            f"{what}, trained from scratch on long-tailed images by deitlt: {network}{average}.",
            "",
            f"- Data: {data_name({**spec.data, 'data': spec.data.get('name')})}; {images}.",
            f"- {len(spec.class_names)} classes: {names}.",
        ]

    def _accuracies(self, run: Run | None) -> Sequence[str]:
        """By token and group, where the run says them of this very checkpoint."""
        stage = self._stage(run)
        part = f"{stage}_ema" if self.ema else stage
        reported = None if run is None else dig(run.metrics, "checkpoints", stage)
        if run is None or part not in run.metrics or Path(str(reported)).name != self.file.name:
            return ["Not known: the weights were exported without the run that measured them."]
        table = results_table({part: run.metrics[part], "cost": {stage: {}}}, data_name(run.metrics))
        said = f"Top-1 accuracy in percent on the test set; {protocols_in_words([run.protocol])}."
        groups = group_sizes_line(run.metrics)
        return [*markdown(table), "", f"{said} {f'Training data: {groups}.' if groups else ''}".rstrip()]

    def _use(self) -> Sequence[str]:
        """In deitlt and in timm."""
        model = self.model or "USER/NAME"
        ours = [
            "```python",
            "import deitlt",
            "",
            f'model = deitlt.load("hf://{model}")  # or the folder of these files',
            'model.predict("photographs").to_pandas()  # a row an image; also pictures, or a tensor',
            "```",
            "",
        ]
        if self.no_timm:
            return [*ours, f"timm has no {self.no_timm}, so deitlt alone reads these files."]
        mean = " It answers with the mean of the two tokens' logits, AVG." if self.spec.model.get("distilled") else ""
        theirs = [
            "```python",
            "import timm",
            "",
            f'model = timm.create_model("hf-hub:{model}", pretrained=True).eval()  # or "local-dir:FOLDER"',
            "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))",
            "```",
        ]
        return [*ours, f"timm reads them, too.{mean}", "", *theirs]

    def _rights(self) -> str:
        """What is asked of who gives the weights on."""
        asked = "say here what the terms of the images that it was trained on are, and whether they allow it."
        if self.license is None:
            return f"Not said yet: put its identifier in place of `license: unknown` above, and {asked}"
        return f"`{self.license}`. Who gives these weights on: {asked}"


def _run_of(file: Path) -> Run | None:
    """The finished run in whose folder a checkpoint lies; None where there is none."""
    folder = file.parent.parent.resolve()
    return next((run for run in read_runs([folder]) if run.folder == folder), None) if _is_run(folder) else None


def _is_run(folder: Path) -> bool:
    return (folder / "metrics.json").is_file() and (folder / "config.yaml").is_file()


def _training(run: Run | None) -> Sequence[str]:
    """The command, and what it changes in its recipe, as the run said it; without where files lay."""
    if run is None:
        return ["Not known: the weights were exported without their run."]
    typed = [without_folders(str(word)) for word in dig(run.config, "recipe", "overrides") or ()]
    words = [word for word in typed if not word.lstrip("+~").startswith(_NOT_SAID)]
    versions = ", ".join(f"{name} {number}" for name, number in (run.metrics.get("versions") or {}).items())
    changes = [without_folders(change) for change in in_typed_words(run.changes, typed)]
    return [
        "```sh",
        shlex.join(["deitlt", "train", *words]),
        "```",
        "",
        *(["Not as in the recipe:", "", *(f"- {change}" for change in changes)] if changes else ["As in the recipe."]),
        *(["", f"With {versions}."] if versions else []),
    ]
