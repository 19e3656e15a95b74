"""The names under which everything of a run is logged, in the CSV files as in W&B.

| name | what | in the summary |
| --- | --- | --- |
| `epoch` | the axis of every curve | last |
| `train/loss`, `train/loss_cls`, `train/loss_dist` | mean of the epoch | least, last |
| `train/lr`, `train/rho` | learning rate at the epoch's end; SAM's radius in it | last |
| `speed/images_per_second`, `speed/epoch_seconds` | of training, all devices together; without evaluations | last |
| `val/...`, `test/...` | accuracy of a watched split in percent | greatest, last |
| `final/...` | accuracy of the epoch that the protocol reports: what metrics.json says | itself |
| `analysis/...` | the measured claims, such as `analysis/rank/dist/block03` | last |
| `analysis/calibration/...` | expected calibration error in percent | least, last |
| `per_class`, `confusions` | tables: a row a class; a row a pair of classes that are taken for each other | - |
| `pictures/...` | `views`, `per_class`, `confusion_cls`, ..., `analysis/...` | - |
| `artifacts/teacher` | which artifact taught a student | itself |

Accuracies are named SPLIT/TOKEN/NAME, with the tokens `cls`, `dist`, `avg` and the names `all`, `balanced`, `head`,
`mid`, `tail`, `top5`; SPLIT/ema/TOKEN/NAME are those of the moving average, and a teacher, which has one answer, has
no token: SPLIT/NAME.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run

_BEST = {"val/": "max,last", "test/": "max,last", "train/loss": "min,last", "analysis/calibration/": "min,last"}
Accuracies = Mapping[str, Mapping[str, float]]  # token -> name -> percent


def define_metrics(run: "Run", names: Iterable[str] = ()) -> None:
    """Draw every metric against the epoch; the summary keeps the best and the last where one is better.

    Args:
        run: the W&B run.
        names: metrics to define one by one: where two patterns match a name, W&B takes either, so that a
            pattern for test/* beside the one for all would hold only now and then.
    """
    run.define_metric("epoch", hidden=True)
    run.define_metric("*", step_metric="epoch")
    for name in sorted(names):
        for prefix, summary in _BEST.items():
            if name.startswith(prefix):
                run.define_metric(name, step_metric="epoch", summary=summary)


def final_names(networks: Mapping[str, Accuracies], raw: str, names_tokens: bool) -> dict[str, float]:
    """The final/... of a stage's summary.

    Args:
        networks: network -> its accuracies.
        raw: which of the networks goes without its name.
        names_tokens: whether the stage has more answers than one.

    Returns:
        Name -> percent.
    """
    summary: dict[str, float] = {}
    for network, tokens in networks.items():
        prefix = "final" if network == raw else f"final/{network}"
        for token, values in tokens.items():
            path = f"{prefix}/{token}" if names_tokens else prefix
            summary |= {f"{path}/{name}": value for name, value in values.items()}
    return summary
