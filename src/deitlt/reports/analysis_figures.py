"""Figures of what an analysis measured, a function a part of it, and the pictures of a stage's folder."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, Final

from matplotlib.figure import Figure

from deitlt.reports.class_figures import per_class_accuracy
from deitlt.reports.figures import (
    ATTENTION,
    COSINE,
    DISAGREEMENT,
    FAINT,
    INK,
    RANKS,
    bar_panels,
    group_bars,
    line_panels,
    save_figure,
    series_style,
    styled,
)
from deitlt.reports.image_figures import RolloutExample, attention_rollouts
from deitlt.reports.runs import (
    TOKENS,
    Plain,
    Points,
    Sample,
    by_block,
    dig,
    epochs_in_words,
    in_group_order,
    number_in,
    sample_of,
)
from deitlt.tracking import drawing
from deitlt.types import DataInfo

ANALYSIS_FOLDER: Final = "analysis"  # of a stage's, for pictures and for what was measured while training
_SHARPNESS: Final = {"eigenvalue": "largest eigenvalue of the Hessian", "trace": "its trace, ± standard error"}


@styled
def attention_distances(found: Plain, title: str) -> Figure:
    """A line through each token's mean over the heads, and each head as a dot.

    found: 'cls', 'dist', 'patches' -> a row of heads for each block, in pixels.
    """
    rows = {TOKENS[token]: blocks for token, blocks in found.items() if token in TOKENS and blocks}
    lines = {name: by_block([mean(heads) for heads in blocks]) for name, blocks in rows.items()}
    figure = line_panels({ATTENTION: lines}, "block", title)
    (axes,) = figure.axes
    for position, (name, blocks) in enumerate(rows.items()):
        shift = (position - (len(rows) - 1) / 2) * 0.08
        dots = [(block + shift, head) for block, heads in enumerate(blocks, start=1) for head in heads]
        look: dict[str, Any] = {"color": series_style(name).colour, "alpha": 0.4, "markersize": 4, "zorder": 1}
        axes.plot(*zip(*dots, strict=True), ".", **look)
    axes.set_ylim(0, max(axes.get_ylim()[1], 1.06 * max(max(h) for blocks in rows.values() for h in blocks)))
    return figure


def feature_ranks(found: Plain, title: str) -> Figure:
    """The rank of each token's features after each block, or of a teacher's, by both definitions.

    found: 'cls', 'dist' -> 'components' and 'effective' -> a number for each block; of a teacher 'features' -> a number
    of each; 'width': the length of a feature vector, which no rank exceeds.
    """
    width = f"features of {found['width']} numbers"
    if features := found.get("features"):
        bars = {words.replace(" of", "\nof"): {"teacher": features[measure]} for measure, words in RANKS.items()}
        return bar_panels({width: bars}, "{:.3g}", title=title)
    tokens = {TOKENS[token]: ranks for token, ranks in found.items() if token in TOKENS and ranks}
    panels = {
        words: {name: by_block(ranks[measure]) for name, ranks in tokens.items()} for measure, words in RANKS.items()
    }
    return line_panels(panels, "block", f"{title} ({width})")


@styled
def expert_diversity(found: Plain, title: str) -> Figure:
    """How often the tokens disagree and how far apart their features are, by group and after each block.

    found: 'disagreement': group -> percent of its images. 'cosine_distance': group -> mean of 1 - cosine, in [0, 2].
    'per_block': the same over all images after each block.
    """
    words = (DISAGREEMENT, f"{COSINE}, last block", f"{COSINE}, by block")
    blocks = {str(block): {COSINE: value} for block, value in enumerate(found["per_block"], start=1)}
    groups = [group_bars(found[measure]) for measure in ("disagreement", "cosine_distance")]
    figure = bar_panels(dict(zip(words, [*groups, blocks], strict=True)), "{:.3g}", percent=True, title=title)
    for bar in figure.axes[2].patches:
        bar.set_color(INK)
    figure.axes[2].set_xlabel("block", loc="right")
    return figure


def diversity_over_epochs(history: Sequence[Plain], title: str) -> Figure:
    """Both measures by group against the epoch; history: analyses while training."""
    panels: dict[str, dict[str, Points]] = {}
    parts = {DISAGREEMENT: "disagreement", f"{COSINE}, last block": "cosine_distance"}
    for words, measure in parts.items():
        groups = in_group_order([group for found in history for group in dig(found, "diversity", measure) or ()])
        panels[words] = {
            group: [(float(found["epoch"]), value) for found in sorted(history, key=lambda found: found["epoch"])
                    if (value := number_in(found, "diversity", measure, group)) is not None]
            for group in groups
        }  # fmt: skip
    return line_panels(panels, "epochs trained", title)


def calibration_errors(found: Plain, title: str) -> Figure:
    """The expected calibration error of each answer, by group; found: token or 'teacher' -> group -> ECE in percent."""
    groups = in_group_order([group for errors in found.values() for group in errors])
    by_group = {group: {TOKENS.get(token, token): errors[group] for token, errors in found.items() if group in errors}
                for group in groups}  # fmt: skip
    return bar_panels({"expected calibration error, %": by_group}, title=title)


def teacher_agreement(found: Plain, title: str) -> Figure:
    """How far out of distribution the teacher is: how often it is right on each kind of the student's images, by group.

    found: 'clean', 'cropped', 'augmented', 'mixed' -> group -> percent of its images.
    """
    ordered = {kind: {g: groups[g] for g in in_group_order([*groups])} for kind, groups in found.items() if groups}
    return bar_panels({"training images on which the teacher is right, %": ordered}, "{:.0f}", True, title)


@styled
def hessian_sharpness(found: Plain, title: str) -> Figure:
    """How sharp the minimum is: the Hessian's largest eigenvalue and trace for each group's images.

    found: group -> 'eigenvalue', 'trace', its standard error 'trace_error', and on how many 'images', as far as they
    are known.
    """
    panels, errors = {}, {}
    for measure, words in _SHARPNESS.items():
        known = {group: found[group] for group in in_group_order([*found]) if measure in found[group]}
        panels[words] = {group: {group: numbers[measure]} for group, numbers in known.items()}
        errors[words] = {group: numbers.get(f"{measure}_error", 0.0) for group, numbers in known.items()}
    figure = bar_panels(panels, "{:.3g}", title=title, errors=errors)
    for axes, bars in zip(figure.axes, panels.values(), strict=True):
        axes.axhline(0, color=FAINT, linewidth=0.8)  # a trace may be negative
        images = [f"{name}\n{n:,} images" if (n := found[name].get("images")) else name for name in bars]
        axes.set_xticks(range(len(bars)), images, fontsize=8)
    if any(numbers.get("trace", 0.0) < 0 for numbers in found.values()):
        figure.axes[1].set_xlabel("negative: a saddle, no minimum", fontsize=9)
    return figure


def _token_winners(info: DataInfo, found: Plain, title: str) -> Figure:
    """The recalls of both tokens by class, and how many classes either wins."""
    by_class = {row["class"]: row for row in found["classes"]}
    recalls = {TOKENS[token]: [by_class.get(c, {}).get(token) for c in range(info.num_classes)]
               for token in ("cls", "dist")}  # fmt: skip
    title = f"{title}\nCLS wins {found['cls']:,}, DIST {found['dist']:,}, ties {found['tie']:,}"
    return per_class_accuracy(recalls, info.counts, info.class_names, info.groups, title)


_TITLES: Final = {
    "attention_distance": "how far its tokens look",
    "rank": "rank of its features",
    "diversity": "how far its experts are apart",
    "winners": "which token wins which class",
    "calibration": "confidence against accuracy",
    "agreement": "what its teacher knows of its images",
    "sharpness": "sharpness of the training loss",
    "diversity_over_epochs": "how far its experts are apart",
    "rollout": "attention rollout",
}
FIGURES: Final[Mapping[str, Callable[[Plain, str], Figure]]] = {
    "attention_distance": attention_distances,
    "rank": feature_ranks,
    "diversity": expert_diversity,
    "calibration": calibration_errors,
    "agreement": teacher_agreement,
    "sharpness": hessian_sharpness,
}


def draw_analysis(
    analysis: Plain, info: DataInfo, rollouts: Sequence[RolloutExample], folder: Path, title: str
) -> list[Path]:
    """Draw what was measured; what has lost all of its numbers is not drawn, and pictures of an earlier analysis go.

    Each says of which images it is and after how many epochs. One that fails is warned about, and the others are drawn.

    Args:
        analysis: in plain values.
        info: the classes, their groups and training images.
        rollouts: rows of the rollouts' picture; none, no picture.
        folder: `ANALYSIS_FOLDER` of a stage's.
        title: of whom, such as 'digits, imbalance 20, student'.

    Returns:
        The paths of what was drawn.
    """
    for old in folder.glob("*.png"):
        old.unlink()
    drawers = {part: partial(draw, found) for part, draw in FIGURES.items() if (found := _drawable(analysis, part))}
    if "winners" in analysis:
        drawers["winners"] = partial(_token_winners, info, analysis["winners"])
    drawn = []
    for part, draw in drawers.items():
        drawn += _draw(part, draw, folder, title, _seen(sample_of(analysis, part), analysis.get("epoch")))
    with drawing("diversity_over_epochs"):
        measured = [json.loads(path.read_text()) for path in sorted(folder.glob("epoch_*.json"))]
        history = [before for before in measured if "diversity" in before]
        if len(history) > 1:
            drawn += _draw("diversity_over_epochs", partial(diversity_over_epochs, history), folder, title)
    return drawn + draw_rollouts(rollouts, analysis.get("split"), analysis.get("epoch"), folder, title)


def draw_rollouts(
    rollouts: Sequence[RolloutExample], split: str | None, epoch: int | None, folder: Path, title: str
) -> list[Path]:
    """Draw the rollouts of some images, if there are any; the rest as `draw_analysis`.

    Args:
        rollouts: the rows of the picture.
        split: which the images are of.
        epoch: after how many epochs.
        folder: `ANALYSIS_FOLDER` of a stage's.
        title: of whom.
    """
    seen = _seen(Sample(split, len(rollouts)), epoch)
    return _draw("rollout", partial(attention_rollouts, rollouts), folder, title, seen) if rollouts else []


def _draw(part: str, draw: Callable[[str], Figure], folder: Path, title: str, seen: str = "") -> list[Path]:
    drawn = []
    with drawing(part):
        drawn.append(save_figure(draw(f"{title}: {_TITLES[part]}{seen}"), folder / f"{part}.png"))
    return drawn


def _drawable(analysis: Plain, part: str) -> Plain:
    """What of a part has numbers; nothing where too little has."""
    found = {name: numbers for name, numbers in analysis.get(part, {}).items() if numbers}
    if part == "diversity" and not {"disagreement", "cosine_distance", "per_block"} <= found.keys():
        return {}
    if part == "calibration" and analysis["kind"] == "teacher":
        return {"teacher": next(iter(found.values()))} if found else {}
    return found if found.keys() - {"unit", "width"} else {}


def _seen(sample: Sample | None, epoch: int | None) -> str:
    """A title's second line: of which images a picture is, after how many epochs."""
    if sample is None:
        return ""
    return f"\n{sample}" if epoch is None else f"\n{sample}, after {epochs_in_words(epoch)}"
