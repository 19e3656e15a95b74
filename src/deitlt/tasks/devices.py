"""Which devices a stage gets."""

import os

import torch

from deitlt.errors import ConfigError


def count_devices(accelerator: str, devices: int | str) -> tuple[str, int]:
    """Resolve 'auto' and check that there are as many devices as were asked for.

    Args:
        accelerator: auto | cpu | gpu.
        devices: a number, or 'auto' for every GPU or one CPU process.

    Returns:
        'cpu' or 'gpu', and the number of devices; a CPU device is a process, at most one a core.

    Raises:
        ConfigError: if there are fewer, or the accelerator is none.
    """
    if accelerator not in ("auto", "cpu", "gpu"):
        raise ConfigError(f"trainer.accelerator={accelerator} is none; type trainer.accelerator=auto, =cpu or =gpu.")
    gpus = torch.cuda.device_count()
    if accelerator == "gpu" and gpus == 0:
        raise ConfigError("trainer.accelerator=gpu, but there is no GPU; type trainer.accelerator=cpu.")
    chosen = "gpu" if accelerator == "gpu" or (accelerator == "auto" and gpus) else "cpu"
    there_are = gpus if chosen == "gpu" else os.cpu_count() or 1
    if devices == "auto":
        return chosen, there_are if chosen == "gpu" else 1
    if not isinstance(devices, int) or not 1 <= devices <= there_are:
        kind = "GPUs" if chosen == "gpu" else "CPU cores"
        raise ConfigError(
            f"trainer.devices={devices} cannot be had: this machine has {there_are} {kind}; "
            f"type trainer.devices={there_are} or fewer."
        )
    return chosen, devices
