"""Whose analysis it is: the networks of a run or of one checkpoint, and which parts each of them has."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from deitlt.checkpoints import find_checkpoint
from deitlt.config.trust import refuse_strange_targets
from deitlt.engine.experiments import named_recipe
from deitlt.engine.ranks import STAGE_FILE
from deitlt.engine.stage_config import STAGES, StageConfig
from deitlt.engine.trained import TrainedNetwork, load_trained
from deitlt.errors import CheckpointError, ConfigError, nearest
from deitlt.models import StudentNetwork

PARTS = ("attention", "rank", "diversity", "winners", "calibration", "agreement", "sharpness", "rollout")
OF_TEACHERS = ("rank", "calibration", "sharpness")
ALL = "all"


@dataclass(frozen=True)
class Subject:
    """One trained network.

    name: 'teacher', 'student' or 'baseline'. stage: what it was trained with, where the run says so. folder: where
    its analysis goes.
    """

    name: str
    trained: TrainedNetwork
    stage: StageConfig | None
    folder: Path

    @property
    def lacks(self) -> dict[str, str]:
        """Part -> why this network has none of it."""
        if self.trained.card.kind == "teacher":
            return {part: "it is a teacher" for part in PARTS if part not in OF_TEACHERS}
        network = self.trained.network
        assert isinstance(network, StudentNetwork)
        missing = {} if "dist" in network.tokens else dict.fromkeys(("diversity", "winners"), "it has no DIST token")
        if self.stage is None:
            missing["agreement"] = f"no {STAGE_FILE} beside it says what its teacher was shown"
        elif not self.stage.distils:
            missing["agreement"] = "nobody taught it"
        return missing


def find_subjects(config: DictConfig) -> list[Subject]:
    """The networks to analyse: of a run's folder each stage that has a checkpoint, else the one.

    Raises:
        ConfigError: for an unknown stage.
        CheckpointError: if there is no checkpoint, or it cannot be read.
    """
    if config.stage != ALL and config.stage not in STAGES:
        raise ConfigError(f"stage={config.stage} is no stage; {nearest(config.stage, (ALL, *STAGES))}")
    given = Path(config.checkpoint)
    held = [name for name in STAGES if any((given / name).glob("*.ckpt"))]
    if config.stage != ALL or not held:
        place = find_checkpoint(given, STAGES if config.stage == ALL else (config.stage,), "stage")
        return [_subject(config, str(place), Path(config.folder) if config.folder else place.parent)]
    chosen = [find_checkpoint(given, (name,)) for name in held]
    folders = [Path(config.folder) / path.parent.name if config.folder else path.parent for path in chosen]
    return [_subject(config, str(path), folder) for path, folder in zip(chosen, folders, strict=True)]


def check_parts(parts: Collection[str], subjects: Collection[Subject]) -> None:
    """Look whether each part that was asked for can be measured on one of the networks.

    Raises:
        ConfigError: if it cannot on any, or there is none.
    """
    if not parts:
        raise ConfigError(f"parts=[] measures nothing; type parts=[rank], say, of {', '.join(PARTS)}.")
    for part in parts:
        reasons = [subject.lacks.get(part) for subject in subjects]
        if None not in reasons:
            names = ", ".join(str(subject.trained.path) for subject in subjects)
            fitting = [p for p in PARTS if any(p not in subject.lacks for subject in subjects)]
            raise ConfigError(
                f"parts has {part}, but of {names} it cannot be measured, for {reasons[-1]}; type parts=all, or of "
                f"{', '.join(fitting)}."
            )


def _subject(config: DictConfig, path: str, folder: Path) -> Subject:
    recipe = named_recipe(config)
    options = {"ema": config.ema, "accelerator": config.accelerator, "recipe": recipe}
    if config.ema and Path(path).parent.name == "teacher":
        options["ema"] = False  # of a run's networks the student's alone has one
    trained = load_trained(path, "student", label_order=config.label_order, **options)
    stage = _stage_beside(trained.path, config.data_root)
    name = stage.name if stage is not None else trained.card.kind
    return Subject(name, trained, stage, folder)


def _stage_beside(checkpoint: Path, data_root: str | None) -> StageConfig | None:
    """What a checkpoint was trained with, with its data and its teacher where they are now; None if nobody says.

    Raises:
        ConfigError: if the file would call what it may not.
    """
    path = checkpoint.parent / STAGE_FILE
    if not path.is_file():
        return None
    try:
        stage = StageConfig.load(path)
    except (TypeError, AssertionError, YAMLError, OmegaConfBaseException) as error:
        raise CheckpointError(f"{path} is no stage that this version can read; delete it to go on without.") from error
    refuse_strange_targets(asdict(stage), str(path))
    one = {"devices": 1, "strategy": "auto", "precision": "32-true", "compile": False}
    stage = replace(stage, trainer={**stage.trainer, **one}, teacher=_teacher_now(stage, checkpoint))
    return stage if data_root is None else replace(stage, data={**stage.data, "root": data_root})


def _teacher_now(stage: StageConfig, checkpoint: Path) -> str | None:
    """The teacher's checkpoint, also where the whole run was moved."""
    if stage.teacher is None or Path(stage.teacher).exists():
        return stage.teacher
    return str(find_checkpoint(checkpoint.parents[1], ("teacher",)))
