"""`deitlt export`: a checkpoint as safetensors, ONNX, a `torch.export` program, or the authors' file."""

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from deitlt.checkpoints import ModelCard
from deitlt.checkpoints.exporting import export, export_files
from deitlt.engine.experiments import named_recipe
from deitlt.engine.trained import TrainedNetwork, load_trained
from deitlt.errors import ConfigError


def main(config: DictConfig) -> None:
    """Write the checkpoint's network to `output` in each of `formats`, and say what was written.

    Raises:
        ConfigError: if the files cannot lie there, or a teacher is asked for as a student's file.
        CheckpointError: if the checkpoint cannot be read, or a written graph answers otherwise than PyTorch.
    """
    console = Console()
    formats, folder = list(dict.fromkeys(config.formats)), Path(config.output).expanduser()
    export_files(formats, folder)  # before a checkpoint of gigabytes is read
    trained = load_trained(config.checkpoint, config.stage, config.ema, "cpu", named_recipe(config), config.label_order)
    if trained.card.kind == "teacher" and "authors" in formats:
        raise ConfigError(
            f"formats=[authors] is a student's file, and {trained.path} holds a teacher; "
            "type formats=[safetensors,onnx,torch_export], or stage=student."
        )
    for path in export(trained.network, card_in_answers_order(trained), formats, folder):
        size = path.stat().st_size / 1e6
        console.print(f"{path}: {size:.1f} MB", highlight=False, soft_wrap=True, markup=False)


def card_in_answers_order(trained: TrainedNetwork) -> ModelCard:
    """The card with its classes as the network's own answers have them, for nobody reorders an exported file's."""
    if trained.class_order is None:
        return trained.card
    return trained.card.in_order(trained.class_order.argsort().tolist())
