"""One writer for each format that a checkpoint can be exported to; ONNX has a file of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.export import ExportedProgram

from deitlt.checkpoints.card import ModelCard
from deitlt.checkpoints.export_card import export_metadata
from deitlt.checkpoints.export_graph import ExportedNetwork, check_answers, trace
from deitlt.checkpoints.export_onnx import write_onnx
from deitlt.checkpoints.foreign_writing import authors_student_state
from deitlt.checkpoints.writing import write_atomically
from deitlt.models import StudentNetwork


@dataclass(frozen=True)
class Exported:
    """What all formats are made of: the trained network, what its checkpoint says of it, and its graph."""

    network: nn.Module
    card: ModelCard

    @cached_property
    def graph(self) -> ExportedNetwork:
        """The network from pixels to named logits."""
        return ExportedNetwork(self.network, self.card.normalisation, self.card.logit_scale)

    @cached_property
    def program(self) -> ExportedProgram:
        """The graph, traced once for all formats that need it."""
        return trace(self.graph, self.card.image_size)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Names of the answers, in their order."""
        size = self.card.image_size
        with torch.no_grad():
            return tuple(self.graph(torch.zeros(1, 3, size, size)))

    def metadata(self, inside: bool) -> dict[str, str]:
        """What the file says of itself; `inside`: whether it is a graph that normalises by itself."""
        return export_metadata(self.card, self.outputs, inside)


def write_safetensors(exported: Exported, path: Path) -> None:
    """The weights under timm's names, with the metadata in the header."""
    weights = {name: value.contiguous().clone() for name, value in _weights(exported.network).items()}
    content = to_safetensors(weights, metadata={"format": "pt", **exported.metadata(inside=False)})
    write_atomically(path, lambda file: file.write(content))


def write_torch_export(exported: Exported, path: Path) -> None:
    """The `torch.export` program, with the metadata as its extra files, read back and compared.

    Raises:
        CheckpointError: if the file answers otherwise than the network.
    """
    extra: dict[str, Any] = dict(exported.metadata(inside=True))
    write_atomically(path, lambda file: torch.export.save(exported.program, file, extra_files=extra))
    program = cast(Callable[[Tensor], dict[str, Tensor]], torch.export.load(path).module())
    check_answers(exported.graph, program, exported.card.image_size, path.name)


def write_for_onnx(exported: Exported, path: Path) -> None:
    """The ONNX graph, with the metadata as its properties, compared by onnxruntime."""
    write_onnx(exported.program, exported.graph, exported.metadata(inside=True), exported.card.image_size, path)


def write_authors(exported: Exported, path: Path) -> None:
    """A student as the authors' evaluation and timm read it: `{"model": weights}` under timm's names.

    Where classes are sorted by count, they are put in the order of the authors' code, whose ties fall otherwise.
    """
    assert isinstance(exported.network, StudentNetwork), "the task lets no teacher through"
    places = {label: place for place, label in enumerate(exported.card.labels)}
    order = [places[label] for label in exported.card.authors_labels]
    content = authors_student_state(exported.network, order=order or None)
    write_atomically(path, lambda file: torch.save(content, file))


def _weights(network: nn.Module) -> dict[str, Tensor]:
    """timm's own names: a student's transformer lies one level down."""
    return network.vit.state_dict() if isinstance(network, StudentNetwork) else network.state_dict()


# Name of a format -> its file's ending, and who writes it.
FORMATS: dict[str, tuple[str, Callable[[Exported, Path], None]]] = {
    "safetensors": ("safetensors", write_safetensors),
    "onnx": ("onnx", write_for_onnx),
    "torch_export": ("pt2", write_torch_export),
    "authors": ("pth", write_authors),
}
