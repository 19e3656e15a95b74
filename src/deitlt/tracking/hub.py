"""The Hugging Face Hub: models are fetched as safe files alone, exported folders pushed. And what is fetched at all."""

import logging
import re
import shlex
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import NoReturn

from deitlt.errors import CheckpointError, ConfigError
from deitlt.tracking.artifacts import WANDB, fetch_checkpoint

HUB = "hf://"  # before the name of a model on the Hub
SAFE = ("config.json", "model.safetensors")  # what is fetched: data that no reader runs
_FORM = "hf://USER/NAME"
_NAME = re.compile(r"\w+(?:[-.]\w+)*/\w+(?:[-.]\w+)*", re.ASCII)
_REVISION = re.compile(r"[\w./-]+", re.ASCII)
_LOGIN = "type hf auth login, or HF_TOKEN=TOKEN before the command"


def is_fetched(place: object) -> bool:
    """Whether a checkpoint is named as it is at W&B or on the Hub, and is no file yet."""
    return str(place).startswith((WANDB, HUB))


def fetch(name: str) -> Path:
    """The file of a checkpoint that `is_fetched`.

    Raises:
        CheckpointError: it cannot be had.
    """
    return fetch_checkpoint(name) if name.startswith(WANDB) else fetch_model(name)


def fetch_model(name: str) -> Path:
    """model.safetensors of a model on the Hub, with its config.json beside it; a revision is fetched once.

    Args:
        name: 'hf://USER/NAME', with '@REVISION' (a branch, tag or commit) for another than the newest.

    Raises:
        CheckpointError: the Hub cannot be reached, has no such model, or it holds no such file.
    """
    model, _, revision = name.removeprefix(HUB).partition("@")
    if not is_name(model) or not (revision or "@" not in name) or (revision and not _REVISION.fullmatch(revision)):
        raise CheckpointError(f"{name} names no model on the Hub; type {_FORM}, or {_FORM}@REVISION.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    _keep_silent()
    try:
        folder = Path(snapshot_download(model, revision=revision or None, allow_patterns=list(SAFE)))
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"There is no model {model} on the Hub that you may read; type {_FORM} of another, or where it is private "
            f"{_LOGIN.removeprefix('type ')}."
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"{model} has no revision {revision} on the Hub; type {HUB}{model}.") from error
    except Exception as error:  # the client's, its HTTP library's and the system's have no common base
        raise CheckpointError(
            f"{name} could not be fetched ({_reason(error)}); go online, or type the path of a folder that is here."
        ) from error
    file = folder / "model.safetensors"
    if not file.is_file():
        raise CheckpointError(
            f"{name} holds no model.safetensors, and files that could run code are not fetched; type {_FORM} of a "
            "model that has it."
        )
    return file


def is_name(model: str) -> bool:
    """Whether it is USER/NAME, as the Hub's models are called."""
    return _NAME.fullmatch(model) is not None


def push_folder(folder: Path, files: Sequence[str], model: str) -> str:
    """Make the model on the Hub, if it is not there, and upload files of a folder; nothing else of it is sent.

    Args:
        folder: on this machine; it stays as it is, whatever happens.
        files: names in it.
        model: USER/NAME.

    Returns:
        The address of the model's page.

    Raises:
        ConfigError: no token is known here, or it may not write there; the Hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    _keep_silent()
    again = f"then hf upload {model} {shlex.quote(str(folder))}"
    if get_token() is None:
        _not_pushed(folder, "no token of the Hub is known here", f"{_LOGIN}, {again}")
    api = HfApi()
    try:
        page = api.create_repo(model, exist_ok=True)
        api.upload_folder(
            repo_id=model, folder_path=folder, allow_patterns=list(files), commit_message="Export by deitlt"
        )
    except HfHubHTTPError as error:
        if error.response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            _not_pushed(folder, f"your token may not write to {model}", f"{_LOGIN} with one that may, {again}", error)
        _not_pushed(folder, f"the Hub refused it: {_reason(error)}", f"mend that, {again}", error)
    except Exception as error:  # see fetch_model
        _not_pushed(folder, _reason(error), f"go online, {again}", error)
    return str(page)


def _not_pushed(folder: Path, why: str, advice: str, cause: Exception | None = None) -> NoReturn:
    raise ConfigError(f"{folder} is written, but was not pushed ({why}); {advice}.") from cause


def _reason(error: Exception) -> str:
    """What went wrong in a word or two: the client's own messages are pages of advice."""
    cause = error.__cause__ or error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    return f"{type(cause).__name__} {status}" if status else type(cause).__name__


def _keep_silent() -> None:
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # each attempt would say that there is no network
