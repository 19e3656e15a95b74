"""What is done about image files before training reads them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deitlt.data.missing import require_files
from deitlt.data.registry import DataSplits
from deitlt.data.sources import ImageSource
from deitlt.data.verify import find_broken, require_sound
from deitlt.errors import ConfigError


@dataclass(frozen=True)
class FileCheck:
    """Looks for every image file, and decodes each once.

    Args:
        on_broken: 'error' stops at an image that cannot be decoded, 'skip' goes on without it.
        verify: decode; else files are only looked for.

    Raises:
        ConfigError: the two do not go together, or `on_broken` is another word.
    """

    on_broken: str = "error"
    verify: bool = True

    def __post_init__(self) -> None:
        if self.on_broken not in ("error", "skip"):
            raise ConfigError(f"data.on_broken={self.on_broken} is no choice; type =error or =skip.")
        if self.on_broken == "skip" and not self.verify:
            raise ConfigError("data.on_broken=skip has to look for broken files first; type data.verify=true with it.")

    def __call__(self, used: Sequence[ImageSource], whole: Callable[[], DataSplits], root: Path) -> list[str]:
        """The files to leave out, where that is allowed.

        Args:
            used: training, validation and test images.
            whole: opens the data set as published: what is left out is left out before it is made long-tailed.
            root: where the files' paths start.

        Raises:
            DataError: files are missing, or one is broken where that is an error.
        """
        require_files(used, root)
        if not self.verify:
            return []
        if self.on_broken == "skip":
            published = whole()
            return sorted({*find_broken(published.train), *find_broken(published.test)})
        require_sound(used)
        return []
