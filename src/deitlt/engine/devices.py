"""Which devices a stage gets, and what is done with them: precision, compiling, the images of an update."""

import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec

import torch

from deitlt.errors import ConfigError


def count_devices(
    accelerator: str, devices: int | str, key: str = "trainer.accelerator", devices_key: str = "trainer.devices"
) -> tuple[str, int]:
    """Resolve 'auto' and check that there are as many devices as were asked for.

    Args:
        accelerator: auto | cpu | gpu.
        devices: a number, or 'auto' for every GPU or one CPU process.
        key: what the verb calls the accelerator.
        devices_key: what was typed for the number.

    Returns:
        'cpu' or 'gpu', and the number of devices; a CPU device is a process, at most one a core.

    Raises:
        ConfigError: if there are fewer, or the accelerator is none.
    """
    if accelerator not in ("auto", "cpu", "gpu"):
        raise ConfigError(f"{key}={accelerator} is none; type {key}=auto, =cpu or =gpu.")
    gpus = torch.cuda.device_count()
    if accelerator == "gpu" and gpus == 0:
        raise ConfigError(f"{key}=gpu, but there is no GPU; type {key}=cpu.")
    chosen = "gpu" if accelerator == "gpu" or (accelerator == "auto" and gpus) else "cpu"
    there_are = gpus if chosen == "gpu" else os.cpu_count() or 1
    if devices == "auto":
        return chosen, there_are if chosen == "gpu" else 1
    if not isinstance(devices, int) or not 1 <= devices <= there_are:
        kind = ("GPU" if chosen == "gpu" else "CPU core") + "s" * (there_are > 1)
        too_many = isinstance(devices, int) and devices > there_are > 1
        advice = f"{there_are} or fewer" if too_many else f"1, or up to {there_are}" if there_are > 1 else "1"
        raise ConfigError(
            f"{devices_key}={devices} cannot be had: this machine has {there_are} {kind}; type {devices_key}={advice}."
        )
    return chosen, devices


def choose_precision(precision: str, accelerator: str) -> str:
    """Resolve 'auto': bf16 on a GPU whose matrix units have it, else what the CPU computes in anyway.

    Args:
        precision: auto | 32-true | bf16-mixed | 16-mixed; anything but 'auto' comes back as it is.
        accelerator: cpu | gpu.
    """
    if precision != "auto":
        return precision
    return "bf16-mixed" if accelerator == "gpu" and _has_bf16() else "32-true"


def choose_compile(compile_: bool | str, accelerator: str) -> bool:
    """Resolve 'auto': compile for a GPU, where it can be done; a CPU gains less than a short run pays for it.

    Args:
        compile_: auto | true | false.
        accelerator: cpu | gpu.

    Raises:
        ConfigError: compiling was asked for, and something that it needs is missing.
    """
    asked = str(compile_).lower()
    missing = None if asked == "false" else _missing_to_compile(accelerator)
    if asked == "true" and missing is not None:
        raise ConfigError(
            f"trainer.compile=true needs {missing}, which this machine does not have; install it, or type "
            "trainer.compile=false."
        )
    return asked == "true" or (asked == "auto" and accelerator == "gpu" and missing is None)


def _has_bf16() -> bool:
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def _missing_to_compile(accelerator: str) -> str | None:
    """What torch's compiler would look for in vain: it writes C++ for a CPU, and for a GPU Triton with a C launcher."""
    if accelerator == "gpu" and find_spec("triton") is None:
        return "Triton (pip install triton)"
    variable, names = ("CC", ("gcc", "clang")) if accelerator == "gpu" else ("CXX", ("g++", "clang++"))
    given = os.environ.get(variable)
    if any(shutil.which(name) for name in ([given] if given else names)):
        return None
    return f"a compiler ({given or ' or '.join(names)})"


@dataclass(frozen=True)
class BatchPlan:
    """How one update's images are shared: devices x batch_size x accumulate.

    batch_size: images for each device at once. accumulate: micro-batches an update.
    """

    devices: int
    batch_size: int
    accumulate: int

    @property
    def images_per_update(self) -> int:
        """Images that one update really sees."""
        return self.devices * self.batch_size * self.accumulate

    def __str__(self) -> str:
        words = [f"{self.devices} device{'s' if self.devices > 1 else ''}", f"{self.batch_size} images"]
        if self.accumulate > 1:
            words.append(f"{self.accumulate} micro-batches")
        return f"{' x '.join(words)} = {self.images_per_update} images an update"


def plan_batches(images_per_update: int, devices: int, batch_size: int) -> BatchPlan:
    """Keep the recipe's images per update on any number of devices.

    The batch of a device shrinks where an update has fewer images than the devices would take; otherwise
    gradients accumulate, rounded to the nearest whole number of micro-batches.

    Raises:
        ConfigError: if a number is below 1, or there are more devices than images in an update.
    """
    for name, value in (("images_per_update", images_per_update), ("batch_size", batch_size)):
        if value < 1:
            raise ConfigError(f"{name}={value} is no number of images; type 1 or more.")
    if devices > images_per_update:
        raise ConfigError(
            f"{devices} devices cannot share images_per_update={images_per_update}; "
            f"type trainer.devices={images_per_update} or fewer."
        )
    batch_size = min(batch_size, images_per_update // devices)
    return BatchPlan(devices, batch_size, max(1, round(images_per_update / (devices * batch_size))))
