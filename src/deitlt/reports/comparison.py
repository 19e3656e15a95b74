"""Which of two answers is better on the same test images: a run's hits, and intervals by a paired bootstrap."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deitlt.errors import ConfigError
from deitlt.reports.runs import GROUPS, PARTS, TOKENS, Run, accuracy_rows, name_runs

TEST_HITS: Final = "test_hits.npz"  # in a run's folder
RESAMPLES: Final = 2_000  # move the ends by a sixteenth of the standard error
LEVEL: Final = 0.95
_SEED: Final = 0
_FUSIONS: Final = ("matched", "fused", "group_fused", "least_regret")  # the rules that are fitted
_ALSO_MAIN: Final = "fused"  # with AVG it meets every other experiment; other answers meet teachers alone


def series_name(part: str, token: str) -> str:
    """'student/avg'; of a model with one answer 'teacher'."""
    return f"{part}/{token}" if token else part


@dataclass(frozen=True)
class Hits:
    """Which test images a run's answers were right on.

    images: a digest of which images they are. targets: [N] class ids, in the order of the test set. right: series, as
    `series_name` calls it -> [N].
    """

    images: str
    targets: NDArray[np.int64]
    right: Mapping[str, NDArray[np.bool_]]

    @cached_property
    def key(self) -> tuple[str, bytes]:
        """Equal where the test images and their order are."""
        return self.images, self.targets.astype(np.int64).tobytes()

    def same_images(self, other: "Hits") -> bool:
        """Whether the other's are of the same test images, in the same order."""
        return self.key == other.key

    def save(self, file: BinaryIO) -> None:
        """Write them as .npz: a bit an image and series."""
        arrays: dict[str, Any] = {name: np.packbits(right) for name, right in self.right.items()}
        np.savez_compressed(file, images=np.array(self.images), targets=self.targets.astype(np.int32), **arrays)

    @staticmethod
    def load(file: Path) -> "Hits | None":
        """Read them without running anything that the file holds; None where a run, an older one, has no such file.

        Raises:
            ConfigError: the file is broken, or something else.
        """
        if not file.exists():
            return None
        try:
            with np.load(file, allow_pickle=False) as found:
                content = {name: found[name] for name in found.files}
            images, targets = content.pop("images"), content.pop("targets")
            if images.dtype.kind != "U" or targets.dtype != np.int32 or targets.ndim != 1:
                raise ValueError("its arrays are others")
            for name, packed in content.items():
                if packed.dtype != np.uint8 or packed.shape != ((len(targets) + 7) // 8,):
                    raise ValueError(f"{name} is not of its images")
        except Exception as error:  # NumPy and zip have many ways to fail on a broken file
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise ConfigError(
                f"{file} is not what a run writes ({reason}); delete it, and its run is not compared, or test the run "
                "anew with deitlt evaluate."
            ) from error
        right = {name: np.unpackbits(packed, count=len(targets)).astype(bool) for name, packed in content.items()}
        return Hits(str(images), targets.astype(np.int64), right)


class Interval(NamedTuple):
    """A difference in percentage points, and the ends of its interval."""

    difference: float
    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        """Whether the two are not told apart."""
        return self.low <= 0 <= self.high


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    classes: ArrayLike | None = None,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = _SEED,
) -> Interval:
    """The percentile interval of `first`'s mean over `second`'s on the same images (a paired bootstrap).

    Images are drawn with replacement, the same ones for both, so only the differences by image count (Efron and
    Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3; Koehn, "Statistical Significance Tests for
    Machine Translation Evaluation", EMNLP 2004, section 4, for pairs). They take few values, and how often each of
    them is drawn is multinomial: counts are drawn, not images, which is exact and hardly takes time.

    It tells what other test images might have said, and nothing of what other seeds might have trained.

    Args:
        first: [N], 1 where it was right and 0 where not; of several seeds the share that was right.
        second: [N], the same of the other.
        classes: [N] class ids, where the mean of the classes' means is asked for: images are drawn within their
            class. None asks for the mean over all images, drawn from all.
        level: of the interval, in (0, 1).
        resamples: how many.
        seed: of the draws.
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    assert differences.size > 0, "there is no image"
    values, value_of = np.unique(differences.round(9), return_inverse=True)
    labels = np.zeros(len(differences)) if classes is None else np.asarray(classes)
    places = np.unique(labels, return_inverse=True)[1]
    compositions = np.zeros((places.max() + 1, len(values)), dtype=np.int64)  # images of each class and value
    np.add.at(compositions, (places, value_of), 1)
    # Classes of one composition add up to a multinomial, too: thousands of classes with three images are few draws.
    kinds, alike = np.unique(compositions, axis=0, return_counts=True)
    stream = np.random.default_rng(seed)
    found, drawn = 0.0, np.zeros(resamples)
    for kind, number in zip(kinds, alike, strict=True):
        present, images = kind > 0, kind.sum()
        unit = values[present] / (images * len(compositions))
        found += float(number * (kind[present] @ unit))
        drawn += stream.multinomial(number * images, kind[present] / images, resamples) @ unit
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(*(round(100 * float(share), 9) for share in (found, low, high)))  # a sum of 0 is exactly 0


class Difference(NamedTuple):
    """How much better an answer is than another: group ('all', 'head', 'mid', 'tail') -> interval."""

    answer: str
    against: str
    intervals: Mapping[str, Interval]


@dataclass(frozen=True)
class Comparison:
    """Paired differences of one experiment's answers to others. note: what they are, and who is left out."""

    title: str
    rows: Sequence[Difference]
    note: str


class _Measured(NamedTuple):
    run: Run
    hits: Hits


def compare(runs: Sequence[Run]) -> Comparison | None:
    """Compare the experiment with the most answers, the first of equals, with its own teacher and with the others.

    AVG, or the one answer that it has, and 'fused' meet all of them, DIST and the other fitted fusions teachers alone.

    Args:
        runs: of one data set.

    Returns:
        The differences; None where no two answers of the same test images are known.

    Raises:
        ConfigError: a file of hits is broken, or another run's.
    """
    known = [_Measured(run, hits) for run in name_runs(runs) if (hits := _hits_of(run)) is not None]
    if not known:
        return None
    most = Counter(hits.key for _, hits in known).most_common(1)[0][0]
    experiments: dict[str, list[_Measured]] = {}
    for measured in known:
        if measured.hits.key == most:
            experiments.setdefault(measured.run.name, []).append(measured)
    others = list(dict.fromkeys(_called(run) for run, hits in known if hits.key != most))
    reference = max(experiments, key=lambda name: len(_shared(experiments[name])))
    rows = _differences(reference, experiments)
    if not rows and not others:
        return None
    left = (
        f"Not compared, for their test images are others, or in another order: {', '.join(others)}." if others else ""
    )
    note = f"{_note(runs, known, experiments)} {left}".rstrip() if rows else left
    return Comparison(f"Paired differences of {reference}", rows, note)


def _hits_of(run: Run) -> Hits | None:
    """A run's hits, of which each is known to be of the accuracy that its metrics.json tells."""
    file = run.folder / TEST_HITS
    if (hits := Hits.load(file)) is None:
        return None
    for row in accuracy_rows(run.metrics):
        right, told = hits.right.get(series_name(row.part, row.token)), row.accuracy.get("all")
        if right is not None and told is not None and abs(100 * right.mean() - told) > 1e-6:
            raise ConfigError(
                f"{file} is not of the metrics.json beside it: {row.label} is right on {100 * right.mean():.2f} % of "
                f"the images there and on {told:.2f} % here; take both of one run, or delete the first."
            )
    return hits


def _called(run: Run) -> str:
    return run.name if run.seed is None else f"{run.name} seed {run.seed}"


def _shared(seeds: Sequence[_Measured]) -> list[str]:
    """The series that each seed of an experiment has, in the first one's order."""
    return [name for name in seeds[0].hits.right if all(name in hits.right for _, hits in seeds)]


def _main_answer(seeds: Sequence[_Measured]) -> tuple[str, str] | None:
    """Part and token of the answer that an experiment is known by: AVG where there is one; None where none is."""
    answers = [("student", "avg"), ("student", "cls"), ("baseline", "avg"), ("baseline", "cls"), ("teacher", "")]
    shared = _shared(seeds)
    return next((answer for answer in answers if series_name(*answer) in shared), None)


def _differences(reference: str, experiments: Mapping[str, Sequence[_Measured]]) -> list[Difference]:
    """Of the reference's answers, each against its opponents."""
    seeds = experiments[reference]
    shared = _shared(seeds)
    if (main := _main_answer(seeds)) is None:
        return []
    own = [
        (f"its {PARTS[part]}", seeds, (part, token))
        for part, token in (("teacher", ""), ("baseline", "cls"))
        if part != main[0] and series_name(part, token) in shared
    ]
    others = [
        (f"{name}, {_label(*answer)}", found, answer)
        for name, found in experiments.items()
        if name != reference and (answer := _main_answer(found)) is not None
    ]
    opponents = [*own, *others]
    teachers = [opponent for opponent in opponents if opponent[2][0] == "teacher"]  # its own, or a run that has no more
    part, tokens = main[0], ("avg", "dist", *_FUSIONS) if main[1] == "avg" else (main[1],)
    return [
        Difference(_label(part, token), words, _intervals(seeds, name, found, series_name(*answer)))
        for token in tokens
        if (name := series_name(part, token)) in shared
        for words, found, answer in (opponents if token in (main[1], _ALSO_MAIN) else teachers)
    ]


def _label(part: str, token: str) -> str:
    return f"{PARTS[part]} {TOKENS[token]}" if token and part != "baseline" else PARTS[part]


def _intervals(seeds: Sequence[_Measured], ours: str, others: Sequence[_Measured], theirs: str) -> dict[str, Interval]:
    """The difference over all images, and in each group that has one."""
    first, second = (np.mean([hits.right[name] for _, hits in side], axis=0)
                     for side, name in ((seeds, ours), (others, theirs)))  # fmt: skip
    run, hits = seeds[0]
    found = {"all": paired_bootstrap(first, second)}
    for group in GROUPS[1:]:
        members = np.isin(hits.targets, (run.metrics.get("groups") or {}).get(group, []))
        if members.any():
            found[group] = paired_bootstrap(first[members], second[members], hits.targets[members])
    return found


def _note(runs: Sequence[Run], known: Sequence[_Measured], experiments: Mapping[str, Sequence[_Measured]]) -> str:
    """What the numbers are. runs: all; known: those that kept their hits; experiments: those that are compared."""
    (first, *_), *_ = experiments.values()
    images = len(first.hits.targets)
    said = [
        "Percentage points by which an answer is above another one, and in brackets the "
        f"{100 * LEVEL:.0f} % interval by a paired bootstrap over the {images:,} test images ({RESAMPLES:,} resamples; "
        "for head, mid and tail within each class); 'none': it holds 0, and the two are not told apart. It tells what "
        "other test images might say, not what other seeds would."
    ]
    if max(map(len, experiments.values())) > 1:
        said.append("The seeds of an experiment are averaged image by image first.")
    if len(known) < len(runs):
        said.append(f"Hits were kept by {len(known)} of {len(runs)} runs.")
    if len(experiments) > 1:
        said.append(
            "Of the experiment with the most answers, the first of equals, AVG and the fusion by one weight meet the "
            "main answer of each other one, DIST and the other fitted fusions teachers alone."
        )
    return " ".join(said)
