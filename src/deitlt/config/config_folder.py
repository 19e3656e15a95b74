"""Where the configurations lie. No torch here."""

from pathlib import Path

import deitlt


def config_dir() -> Path:
    """The folder of the configurations: inside the installed package, or at the root of a checkout."""
    package = Path(deitlt.__file__).resolve().parent
    return package / "conf" if (package / "conf").is_dir() else package.parents[1] / "conf"
