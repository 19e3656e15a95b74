"""A trained network as files for others: safetensors, ONNX, `torch.export`, the authors' file, a folder for the Hub."""

import importlib
import importlib.util
import json
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import timm
import torch
from safetensors.torch import save as to_safetensors
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from deitlt.checkpoints.external import authors_student_state
from deitlt.checkpoints.io import EXPORTED, write_atomically
from deitlt.checkpoints.loading import known_data
from deitlt.checkpoints.spec import TARGETS, ModelSpec, Weights
from deitlt.errors import CheckpointError, ConfigError, nearest
from deitlt.metrics import logits_by_token
from deitlt.models import CosineLinear, PaCoNetwork, StudentNetwork, create_teacher
from deitlt.types import TokenLogits

INPUT = "pixels"  # of a graph
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # the optional extra deitlt[export]
CHECKED_BATCHES = (1, 3)  # neither is the size that the graph was traced with
TRACED_BATCH = 2  # 0 and 1 are sizes that the tracer would treat as special
TOLERANCE = 1e-4  # of the largest logit: what float32 leaves between two ways to sum
_GRAPH_INPUT = "pixels: float32 [batch, 3, {0}, {0}], RGB in [0, 1]; mean and std are applied inside"
_WEIGHTS_INPUT = "float32 [batch, 3, {0}, {0}], RGB in [0, 1], then (pixels - mean) / std"
_WHOLE = "resize the whole picture to {0} x {0} pixels, bicubic"
_CENTRE = "resize the shorter side to {1} pixels, bicubic, and take the central {0} x {0}"
_FOLDERS = re.compile(r"(?<![\w./~])~?/(?!/)(?:[^/\s,'\"\]}]+/)*")  # of absolute paths, before the last name


def without_folders(text: str) -> str:
    """A text in which absolute paths are names: where files lay is nobody's business."""
    return _FOLDERS.sub("", text)


def export(network: nn.Module, spec: ModelSpec, formats: Sequence[str], folder: Path, card: str = "") -> list[Path]:
    """Write a network in evaluation mode to `folder`, in each format; graphs are compared with it.

    Args:
        network: a student or teacher, on the CPU.
        spec: what its checkpoint says of it.
        formats: keys of `FORMATS`.
        folder: made if it is not there.
        card: of the format 'hub', the model card.

    Returns:
        Every file that was written, sorted; an ONNX graph over 2 GB has its weights in a second one.

    Raises:
        ConfigError: as `export_files`.
        CheckpointError: if a file answers otherwise than the network; then no file is kept.
    """
    files = export_files(formats, folder)
    if isinstance(network, PaCoNetwork):
        network, spec = _plain_teacher(network, spec)
    exported = Exported(network, spec, card)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    with TemporaryDirectory(dir=there, prefix=".export.") as draft:
        for name, path in files.items():
            FORMATS[name][1](exported, Path(draft, path.name))
        written = sorted(os.listdir(draft))
        folder.mkdir(parents=True, exist_ok=True)
        for file in written:
            os.replace(Path(draft, file), folder / file)
    return [folder / file for file in written]


def export_files(formats: Sequence[str], folder: Path) -> dict[str, Path]:
    """Where each format's first file will lie, once it is known that it can.

    Raises:
        ConfigError: if a format is unknown, none is named, a package is missing, or something lies there.
    """
    if not formats:
        raise ConfigError(f"formats=[] names no format; type formats=[{','.join(FORMATS)}], or some of them.")
    for name in formats:
        if name not in FORMATS:
            raise ConfigError(f"formats=[{name}] is no format; {nearest(name, FORMATS)}")
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if "onnx" in formats and missing:
        raise ConfigError(
            f"formats=[onnx] needs {' and '.join(missing)}, which this installation lacks; type pip install "
            "'deitlt[export]', or leave onnx out, as in formats=[safetensors,torch_export]."
        )
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output={folder} is a file; type output=FOLDER with a new or empty folder.")
    there = [folder / file for name in formats for file in FORMATS[name][0] if (folder / file).exists()]
    if there:
        raise ConfigError(f"{there[0]} exists already; delete it, or type output=FOLDER with another folder.")
    return {name: folder / FORMATS[name][0][0] for name in formats}


def _plain_teacher(network: PaCoNetwork, spec: ModelSpec) -> tuple[nn.Module, ModelSpec]:
    """The CNN of PaCo's query encoder with the class centres as its classifier, and a spec that says so.

    Key encoder, projections and queue serve training alone. The result has the names that timm gives such a CNN.
    """
    model = {"name": spec.model["name"], "head": "linear"}
    plain = create_teacher(len(spec.class_names), **model)
    weights: Weights = dict(network.encoder_q.backbone.state_dict())
    lacking = [name for name in plain.state_dict() if name not in weights]
    centres = network.linear.state_dict()
    plain.load_state_dict(weights | {name: centres[name.rpartition(".")[2]] for name in lacking})
    return plain.eval(), replace(spec, target="deitlt.models.create_teacher", model=model)


class ExportedNetwork(nn.Module):
    """A student or teacher behind its normalisation, whose outputs have names.

    Args:
        network: normalised images [B, 3, S, S] -> `TokenLogits`, or logits [B, C].
        spec: with the statistics that its input is normalised with, and the factor from a teacher's outputs to logits.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.network = network
        self.logit_scale = spec.logit_scale
        self.register_buffer("mean", torch.tensor(spec.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(spec.std).view(3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """pixels: [B, 3, S, S], RGB in [0, 1] -> logits [B, C] by name.

        A student gives `cls`, and with a distillation token `dist` and `avg`, the mean of the two logits; a
        teacher gives `logits`.
        """
        output = self.network((pixels - self.mean) / self.std)
        if isinstance(output, TokenLogits):
            return logits_by_token(output)
        return {"logits": self.logit_scale * output}


@dataclass(frozen=True)
class Exported:
    """What all formats are made of: the trained network, what its checkpoint says of it, its graph, and its card."""

    network: nn.Module
    spec: ModelSpec
    card: str = ""

    @cached_property
    def graph(self) -> ExportedNetwork:
        """The network from pixels to named logits."""
        return ExportedNetwork(self.network, self.spec)

    def pixels(self, batch: int) -> Tensor:
        """Random pixels [B, 3, S, S]."""
        size = self.spec.image_size
        return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(batch))

    @cached_property
    def program(self) -> ExportedProgram:
        """The graph for any number of images, traced once for all formats that need it."""
        example = (self.pixels(TRACED_BATCH),)
        program = torch.export.export(self.graph, example, dynamic_shapes=({0: Dim("batch", min=1)},))
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # lines of code, and where they stood in whose files
        return program

    def metadata(self, inside: bool) -> dict[str, str]:
        """What the file says of itself, each value as JSON, which every format can carry.

        Args:
            inside: whether the file holds a graph that normalises by itself and scales its logits, or weights alone.

        Returns:
            The spec's fields, with 'input' and 'view' saying in words what an image must be made into.
        """
        spec = self.spec
        content = spec.as_plain()
        data = {key: value for key, value in known_data(spec.data).items() if key != "exclude"}
        content["data"] = {k: without_folders(v) if isinstance(v, str) else v for k, v in data.items()}
        if inside:
            del content["logit_scale"]  # it would be applied twice
        scaled = int(spec.image_size / spec.crop_share)  # as timm rounds
        content |= {
            "outputs": list(self.graph(self.pixels(1))),
            "input": (_GRAPH_INPUT if inside else _WEIGHTS_INPUT).format(spec.image_size),
            "view": (_WHOLE if spec.crop_share == 1 else _CENTRE).format(spec.image_size, scaled),
        }
        return {key: json.dumps(value) for key, value in content.items()}

    @torch.no_grad()
    def compare(self, ask: Callable[[Tensor], Mapping[str, Tensor]], name: str) -> None:
        """Compare an exported file's logits with PyTorch's on random pixels, at two batch sizes.

        Args:
            ask: the file: pixels [B, 3, S, S] -> logits [B, C] by name.
            name: the file's, for the message.

        Raises:
            CheckpointError: if names or sizes differ, or logits by more than `TOLERANCE` of the largest.
        """
        for batch in CHECKED_BATCHES:
            pixels = self.pixels(batch)
            if (how := _difference(self.graph(pixels), ask(pixels))) is not None:
                raise CheckpointError(
                    f"{name} does not answer {batch} image{'s' if batch > 1 else ''} as PyTorch does: {how}; it was "
                    "not kept, so leave its format out of formats=[safetensors,onnx,torch_export]."
                )


def _difference(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """How two answers differ, in words; None if they do not."""
    if list(found) != list(expected):
        return f"it gives {', '.join(found)} in place of {', '.join(expected)}"
    for token, logits in expected.items():
        if found[token].shape != logits.shape:
            return f"{token} has the shape {tuple(found[token].shape)}"
        furthest, largest = float((found[token] - logits).abs().max()), float(logits.abs().max())
        if not furthest <= TOLERANCE * max(1.0, largest):  # so that NaN is refused, too
            return f"{token} is off by {furthest:.2g} where logits reach {largest:.2g}"
    return None


def write_safetensors(exported: Exported, path: Path) -> None:
    """The weights under timm's names, with the metadata in the header."""
    network = exported.network
    state = (network.vit if isinstance(network, StudentNetwork) else network).state_dict()
    weights = {name: value.contiguous().clone() for name, value in state.items()}
    content = to_safetensors(weights, metadata={"format": "pt", **exported.metadata(inside=False)})
    write_atomically(path, lambda file: file.write(content))


def write_torch_export(exported: Exported, path: Path) -> None:
    """The `torch.export` program, with the metadata as its extra files, read back and compared."""
    extra: dict[str, Any] = dict(exported.metadata(inside=True))
    write_atomically(path, lambda file: torch.export.save(exported.program, file, extra_files=extra))
    exported.compare(cast(Callable[[Tensor], dict[str, Tensor]], torch.export.load(path).module()), path.name)


def write_onnx(exported: Exported, path: Path) -> None:
    """The ONNX graph for any number of images, with the metadata as its properties, compared by onnxruntime.

    Weights lie in the file itself, or in one beside it where they exceed the 2 GB that it can hold.
    """
    metadata = exported.metadata(inside=True)
    outputs = json.loads(metadata["outputs"])
    for name in ("onnxscript", "onnx_ir"):  # they would tell of each node that could be simplified
        logging.getLogger(name).setLevel(logging.WARNING)
    written = torch.onnx.export(
        exported.program,
        input_names=[INPUT],
        output_names=outputs,
        dynamic_shapes=({0: "batch"},),
        dynamo=True,
        verbose=False,
    )
    assert written is not None
    for node in written.model.graph:
        node.metadata_props.clear()  # lines of code, and where they stood in whose files
    written.model.metadata_props.update(metadata)
    written.save(path)
    runtime: Any = importlib.import_module("onnxruntime")  # only here, for it is optional
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def ask(pixels: Tensor) -> dict[str, Tensor]:
        found = session.run(outputs, {INPUT: pixels.numpy()})
        return {name: torch.from_numpy(logits) for name, logits in zip(outputs, found, strict=True)}

    exported.compare(ask, path.name)


def write_authors(exported: Exported, path: Path) -> None:
    """A student as the authors' evaluation and timm read it: `{"model": weights}` under timm's names.

    Where classes are sorted by count, they are put in the order of the authors' code, whose ties fall otherwise.
    """
    assert isinstance(exported.network, StudentNetwork), "the command lets no teacher through"
    places = {label: place for place, label in enumerate(exported.spec.labels)}
    order = [places[label] for label in exported.spec.authors_labels]
    content = authors_student_state(exported.network, order=order or None)
    write_atomically(path, lambda file: torch.save(content, file))


def no_timm_form(network: nn.Module, spec: ModelSpec) -> str | None:
    """Why timm cannot make a network of its name and plain arguments, as half a sentence; None where it can."""
    if isinstance(network, StudentNetwork):
        return "stem of convolutions before the blocks" if network.has_conv_stem else None
    if spec.target not in TARGETS or not hasattr(_plain(network), "pretrained_cfg"):
        return str(spec.model.get("name") or spec.target)
    has_cosine = any(isinstance(module, CosineLinear) for module in network.modules())
    return f"{spec.model['name']} with a cosine classifier" if has_cosine else None


def _plain(network: nn.Module) -> nn.Module:
    return network.encoder_q.backbone if isinstance(network, PaCoNetwork) else network


def write_hub(exported: Exported, path: Path) -> None:
    """A folder for the Hub: model.safetensors, timm's config.json and the model card; compared as timm reads it."""
    write_safetensors(exported, path)
    content = json.dumps(hub_config(exported), indent=2)
    write_atomically(path.with_name("config.json"), lambda file: file.write(content.encode()))
    write_atomically(path.with_name("README.md"), lambda file: file.write(exported.card.encode()))
    if no_timm_form(exported.network, exported.spec) is None:
        network = timm.create_model(f"local-dir:{path.parent}", pretrained=True).eval()
        read = ExportedNetwork(network, exported.spec)

        def ask(pixels: Tensor) -> dict[str, Tensor]:
            ours: dict[str, Tensor] = exported.graph(pixels)
            return ours | {list(ours)[-1]: read(pixels)["logits"]}  # of two tokens timm gives their mean alone

        exported.compare(ask, "The folder as timm reads it")


def hub_config(exported: Exported) -> dict[str, Any]:
    """What timm's config.json says: how to make the network, what its input is, the names of its classes.

    Where timm cannot make it, `architecture` is a name that timm does not know.
    """
    spec, network = exported.spec, exported.network
    inner = network.vit if isinstance(network, StudentNetwork) else network
    known: dict[str, Any] = getattr(inner, "pretrained_cfg", {})
    arguments: dict[str, Any] = {}
    if isinstance(inner, VisionTransformer) and spec.kind == "student":
        attention: Any = inner.blocks[0].attn
        sizes = {"embed_dim": inner.embed_dim, "depth": len(inner.blocks), "num_heads": attention.num_heads}
        patches = {"img_size": spec.image_size, "patch_size": inner.patch_embed.patch_size[0]}
        arguments = {**patches, **sizes, "dynamic_img_size": True}
    classes = len(spec.class_names)
    return {
        "architecture": known["architecture"] if no_timm_form(network, spec) is None else spec.target,
        "num_classes": classes,
        "label_names": spec.class_names,
        "model_args": arguments,
        "pretrained_cfg": {
            "input_size": [3, spec.image_size, spec.image_size],
            "interpolation": "bicubic",
            "crop_pct": spec.crop_share,
            "crop_mode": "squash" if spec.crop_share == 1 else "center",
            "mean": spec.mean,
            "std": spec.std,
            "num_classes": classes,
            "pool_size": None,
            "first_conv": known.get("first_conv"),
            "classifier": known.get("classifier"),
        },
    }


# Name of a format -> its files, and who writes them, given the place of the first.
FORMATS: dict[str, tuple[tuple[str, ...], Callable[[Exported, Path], None]]] = {
    "safetensors": ((EXPORTED,), write_safetensors),
    "onnx": (("model.onnx",), write_onnx),
    "torch_export": (("model.pt2",), write_torch_export),
    "authors": (("model.pth",), write_authors),
    "hub": ((EXPORTED, "config.json", "README.md"), write_hub),
}
