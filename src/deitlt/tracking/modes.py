"""Whether a run is recorded online or offline, found out once and within seconds, before anything is trained.

Left to itself W&B tries for a minute and a half to begin a run that no server will take, at each stage.
`import wandb` takes half a second, so it happens only where it is used.
"""

import os
import urllib.error
import urllib.request

from deitlt.errors import ConfigError, nearest
from deitlt.tracking.failures import first_line, warn_once

PATIENCE = 5.0  # seconds for a server's first answer
KEY_PATIENCE = 10  # seconds for its answer about a key
_MODES = {
    "online": "online",
    "run": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
}


def settle_mode(mode: str | None) -> str:
    """The mode in which every stage of a run is recorded; says once why it is not the one that was wanted.

    Args:
        mode: 'online', 'offline', 'disabled', or None for online where a key is known. The environment's
            WANDB_MODE wins over it.

    Returns:
        'online', 'offline' or 'disabled'; 'offline' in place of 'online' where the server cannot be reached, or
        takes no key.

    Raises:
        ConfigError: the mode is none of these.
    """
    chosen = wanted_mode(mode)
    if chosen == "online" and (reason := why_not_online()) is not None:
        warn_once("online", f"W&B records offline, to be uploaded later: {reason}")
        return "offline"
    if chosen == "offline" and not (mode or os.environ.get("WANDB_MODE")):
        warn_once("online", "W&B records offline, to be uploaded later: no key is known (type wandb login)")
    return chosen


def wanted_mode(mode: str | None) -> str:
    """The mode that the environment, the configuration or a known key asks for; asks no server.

    Raises:
        ConfigError: the mode is unknown.
    """
    wanted = os.environ.get("WANDB_MODE") or mode
    if wanted is None:
        return "online" if has_key() else "offline"
    return known_mode(wanted, "WANDB_MODE" if os.environ.get("WANDB_MODE") else "logger.wandb.mode")


def known_mode(mode: str, source: str) -> str:
    """One of 'online', 'offline' and 'disabled'; `source` is where the word came from.

    Raises:
        ConfigError: the mode is unknown.
    """
    if mode not in _MODES:
        raise ConfigError(f"{source}={mode!r} is no mode of W&B; {nearest(mode, _MODES)}")
    return _MODES[mode]


def keep_silent() -> None:
    """Keep W&B off the terminal. It reads the variable once, when it first does anything."""
    os.environ.setdefault("WANDB_SILENT", "true")


def has_key() -> bool:
    """Whether W&B finds a key in the environment, in netrc or in its settings; asks nobody for one."""
    keep_silent()
    import wandb

    try:
        return bool(wandb.login(prompt=False, verify=False))
    except TypeError:  # W&B before `prompt`
        return bool(wandb.api.api_key)
    except wandb.Error as error:  # a key that cannot be one
        warn_once("online", f"W&B records offline, for its key cannot be used: {error}")
        return False


def why_not_online() -> str | None:
    """Why no run can be recorded online at the moment, as half a sentence; None where one can.

    Takes a few seconds at most where there is no network, and `PATIENCE` + `KEY_PATIENCE` where a server is mute.
    """
    keep_silent()
    import wandb

    address = wandb.setup().settings.base_url
    if not _answers(address):
        return f"{address} cannot be reached"
    if not has_key():
        return "no key is known (type wandb login)"
    try:
        # What was asked for is a key that the server takes; a server that says nothing is as good as none.
        if wandb.Api(timeout=KEY_PATIENCE).viewer is None:
            return f"{address} knows no such key"
    except Exception as error:  # see forgiving
        return f"{address} does not take the key ({first_line(error)})"
    return None


def _answers(address: str) -> bool:
    """Whether a server says anything at all; proxies are used as the environment names them."""
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE):
            return True
    except urllib.error.HTTPError:  # an answer, if not a friendly one
        return True
    except (OSError, ValueError):
        return False
