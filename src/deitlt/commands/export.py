"""`deitlt export`: a checkpoint as safetensors, ONNX, a `torch.export` program, or the authors' file."""

from pathlib import Path

from omegaconf import DictConfig

from deitlt.errors import ConfigError


def main(config: DictConfig) -> None:
    """Write the checkpoint's network to `output` in each of `formats`, and say what was written.

    Raises:
        ConfigError: if the files cannot lie there, or a teacher is asked for as a student's file.
        CheckpointError: if the checkpoint cannot be read, or a written graph answers otherwise than PyTorch.
    """
    from rich.console import Console

    from deitlt.checkpoints.export import export, export_files
    from deitlt.engine.trained import open_trained
    from deitlt.models import StudentNetwork

    formats, folder = list(dict.fromkeys(config.formats)), Path(config.output).expanduser()
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
    for path in export(trained.network, trained.own_spec, formats, folder):
        size = path.stat().st_size / 1e6
        console.out(f"{path}: {size:.1f} MB", highlight=False)
