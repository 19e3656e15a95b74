"""`deitlt export`: a checkpoint as safetensors, ONNX, `torch.export`, the authors' file, or a folder for the Hub."""

from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from deitlt.errors import ConfigError


def main(config: DictConfig) -> None:
    """Write the checkpoint's network to `output` in each of `formats`, say what was written, and push it.

    Raises:
        ConfigError: if the files cannot lie there, a teacher is asked for as a student's file, or it cannot be pushed.
        CheckpointError: if the checkpoint cannot be read, or a written file answers otherwise than PyTorch.
    """
    from rich.console import Console

    from deitlt.checkpoints.export import FORMATS, export, export_files, no_timm_form
    from deitlt.engine.trained import open_trained
    from deitlt.models import StudentNetwork
    from deitlt.reports.card import Card
    from deitlt.tracking import HUB, push_folder

    formats, folder = list(dict.fromkeys(config.formats)), Path(config.output).expanduser()
    is_hub = "hub" in formats
    _check_hub(config, is_hub)
    export_files(formats, folder)  # before a checkpoint of gigabytes is read
    trained = open_trained(config, accelerator="cpu")
    if trained.spec.kind == "teacher" and "authors" in formats:
        raise ConfigError(
            f"formats=[authors] is a student's file, and {trained.path} holds a teacher; "
            "type formats=[safetensors,onnx,torch_export], or stage=student."
        )
    if "authors" in formats and not isinstance(trained.network, StudentNetwork):
        raise ConfigError(
            f"formats=[authors] is for transformers of timm's, and {trained.path} holds a {trained.spec.target}; type "
            "formats=[safetensors,onnx,torch_export]."
        )
    console = Console()

    def say(line: str) -> None:
        console.out(line, highlight=False)

    no_timm = no_timm_form(trained.network, trained.own_spec)
    if is_hub and no_timm is not None:
        say(f"timm has no {no_timm}: {folder} can be read by deitlt.load alone")
    spec = replace(trained.own_spec, protocol=trained.spec.protocol_of(trained.path.name))
    card = Card(spec, trained.path, config.ema, config.push, config.license, no_timm).text() if is_hub else ""
    for path in export(trained.network, spec, formats, folder, card):
        size = path.stat().st_size / 1e6
        say(f"{path}: {size:.1f} MB")
    if is_hub and config.license is None:
        say(f"{folder / 'README.md'} says no licence; put it there, or type license=NAME, such as license=cc-by-4.0")
    if config.push is not None:
        page = push_folder(folder, FORMATS["hub"][0], config.push)
        say(f"pushed: {page} (deitlt.load('{HUB}{config.push}'))")


def _check_hub(config: DictConfig, is_hub: bool) -> None:
    """Raise ConfigError where words are of the Hub and the formats are not, or name no place there."""
    from deitlt.tracking import is_name

    for key in ("push", "license"):
        if config[key] is not None and not is_hub:
            raise ConfigError(f"{key}={config[key]} is of a folder for the Hub; type formats=[hub] beside it.")
    if config.push is not None and not is_name(config.push):
        raise ConfigError(f"push={config.push} is no name on the Hub; type push=USER/NAME.")
