"""From the images of one update to micro-batches, whatever the number of devices."""

from dataclasses import dataclass

from deitlt.errors import ConfigError

AUTO = "auto"  # the batch of a device is to be found


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


def plan_batches(images_per_update: int, devices: int, batch_size: int | str) -> BatchPlan:
    """Keep the recipe's images per update on any number of devices.

    The batch of a device shrinks where an update has fewer images than the devices would take; otherwise
    gradients accumulate, rounded to the nearest whole number of micro-batches. As long as the batch is 'auto' and
    not yet found, a device takes its share of an update at once.

    Raises:
        ConfigError: if a number is below 1, or there are more devices than images in an update.
    """
    if batch_size == AUTO:
        batch_size = max(1, images_per_update // devices)
    if isinstance(batch_size, str):
        raise ConfigError(f"batch_size={batch_size} is no number of images; type 1 or more, or {AUTO}.")
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
