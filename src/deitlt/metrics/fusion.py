"""One answer from two experts: rules that fuse the tokens, and their fit on a validation split.

The paper takes the mean of the logits. The class token is the more confident one, so that mean follows it and
wastes the tail's expert; the rules here give the distillation token more say, as far as held-out images ask for it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from deitlt.types import TokenLogits

Fusion = Callable[[TokenLogits], Tensor]
RIDGE = 1e-3  # holds a weight near one half where the held-out images are too few to say anything


def mean_of_probabilities(logits: TokenLogits) -> Tensor:
    """The log of the mean of both tokens' probabilities, [B, C]."""
    cls, dist = _log_probabilities(logits)
    return torch.logaddexp(cls, dist)


@dataclass(frozen=True)
class WeightedTokens:
    """``u_c log p_cls(c) + v_c log p_dist(c)``: a weight a token, the same for all classes or one a class.

    Args:
        cls: u, C weights.
        dist: v, C weights.
    """

    cls: tuple[float, ...]
    dist: tuple[float, ...]

    def __call__(self, logits: TokenLogits) -> Tensor:
        """The fused logits, [B, C], in float64."""
        cls, dist = _log_probabilities(logits)
        return cls.new_tensor(self.cls) * cls + dist.new_tensor(self.dist) * dist

    def as_plain(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return {"cls": list(self.cls), "dist": list(self.dist)}


@torch.no_grad()
def fusions_for(
    answer: Callable[[Tensor], TokenLogits],
    held_out: Iterable[tuple[Tensor, Tensor]] | None,
    groups: Mapping[str, Sequence[int]],
) -> dict[str, Fusion]:
    """Every rule for one network, by name: `mean_prob`, and with held-out images those that are fitted.

    Args:
        answer: images [B, 3, H, W] -> logits [B, C] of both tokens.
        held_out: batches of images and class ids [B], never the test set's; None where there is none.
        groups: as in `fit_fusions`.
    """
    free: dict[str, Fusion] = {"mean_prob": mean_of_probabilities}
    if held_out is None:
        return free
    answers = [(answer(images), targets) for images, targets in held_out]
    cls = torch.cat([logits.cls.float().cpu() for logits, _ in answers])
    dist = torch.cat([logits.dist.float().cpu() for logits, _ in answers if logits.dist is not None])
    return free | fit_fusions(TokenLogits(cls, dist), torch.cat([targets for _, targets in answers]), groups)


def fit_fusions(logits: TokenLogits, targets: Tensor, groups: Mapping[str, Sequence[int]]) -> dict[str, WeightedTokens]:
    """Fit every rule on held-out images, each class counted alike however few images it has.

    All rules minimise the mean over the classes of the negative log-likelihood. ``matched`` gives each token
    its own temperature (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2), then
    takes the mean; ``fused`` has one weight between the tokens, ``group_fused`` one for each of head, mid and tail.

    Args:
        logits: of N held-out images, [N, C] a token; never those of the test set.
        targets: [N] class ids.
        groups: 'head', 'mid', 'tail' -> class ids.

    Returns:
        rule -> its fusion.
    """
    with torch.inference_mode(False):  # a test runs in inference mode, of whose tensors nothing can be learnt
        cls, dist = (z.clone().cpu() for z in _log_probabilities(logits))
        return _fit_all(cls, dist, targets.clone().cpu(), groups)


def _fit_all(
    cls: Tensor, dist: Tensor, targets: Tensor, groups: Mapping[str, Sequence[int]]
) -> dict[str, WeightedTokens]:
    """cls, dist: [N, C] log-probabilities; targets: [N]."""
    one = torch.ones(cls.shape[1], dtype=torch.float64)
    group_of = torch.zeros(cls.shape[1], dtype=torch.int64)
    for place, members in enumerate(groups.values()):
        group_of[list(members)] = place

    def shared(p: Tensor) -> tuple[Tensor, Tensor]:
        return _split(p[1:].sigmoid() * one, p[0])

    def by_group(p: Tensor) -> tuple[Tensor, Tensor]:
        return _split(p[1:].sigmoid()[group_of], p[0])

    def alone(p: Tensor) -> tuple[Tensor, Tensor]:
        return p.exp() * one, 0 * one

    temperatures = [_minimise(alone, 1, token, token, targets)[0] for token in (cls, dist)]
    fitted = {
        "matched": (temperatures[0] / 2, temperatures[1] / 2),
        "fused": _minimise(shared, 2, cls, dist, targets),
        "group_fused": _minimise(by_group, 1 + len(groups), cls, dist, targets),
    }
    return {rule: WeightedTokens(tuple(u.tolist()), tuple(v.tolist())) for rule, (u, v) in fitted.items()}


def _split(share: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
    """The class token's share, [C], as both tokens' weights."""
    return log_scale.exp() * share, log_scale.exp() * (1 - share)


def _minimise(
    weights: Callable[[Tensor], tuple[Tensor, Tensor]], size: int, cls: Tensor, dist: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """The weights, [C] a token, of the parameters with the least balanced loss; 0 is the plain mean."""
    parameters = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    share = 1 / torch.bincount(targets, minlength=cls.shape[1])[targets].double()
    optimizer = torch.optim.LBFGS([parameters], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        u, v = weights(parameters)
        each = F.cross_entropy(u * cls + v * dist, targets, reduction="none")
        total = (share * each).sum() / share.sum() + RIDGE * parameters.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    u, v = weights(parameters.detach())
    return u, v


def _log_probabilities(logits: TokenLogits) -> tuple[Tensor, Tensor]:
    assert logits.dist is not None, "there is nothing to fuse"
    return logits.cls.double().log_softmax(dim=1), logits.dist.double().log_softmax(dim=1)
