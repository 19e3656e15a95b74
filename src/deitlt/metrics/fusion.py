"""One answer from two experts: rules that fuse the tokens, and their fit on a validation split.

The paper takes the mean of the logits. The class token is the more confident one, so that mean follows it and
wastes the tail's expert; the rules here give the distillation token more say, as far as held-out images ask for it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from deitlt.types import TokenLogits

Fusion = Callable[[TokenLogits], Tensor]
RIDGE = 1e-3  # holds a weight near one half where the held-out images are too few to say anything
MOST_LOGITS = 20_000_000  # of a token that a fit looks at: 160 MB in float64, 2,500 images of 8,142 classes
SHARPNESS = 40.0  # of the smooth maximum over the groups: differences of a few points of recall count


def mean_of_probabilities(logits: TokenLogits) -> Tensor:
    """The log of the mean of both tokens' probabilities, [B, C]."""
    cls, dist = _log_probabilities(logits)
    return torch.logaddexp(cls, dist)


@dataclass(frozen=True)
class WeightedTokens:
    """``u_c log p_cls(c) + v_c log p_dist(c) + b_c``: a weight a token, the same for all classes or one a class.

    Args:
        cls: u, C weights.
        dist: v, C weights.
        offset: b, C numbers; none if empty.
    """

    cls: tuple[float, ...]
    dist: tuple[float, ...]
    offset: tuple[float, ...] = ()

    def __call__(self, logits: TokenLogits) -> Tensor:
        """The fused logits, [B, C], in float64."""
        cls, dist = _log_probabilities(logits)
        return cls.new_tensor(self.cls) * cls + dist.new_tensor(self.dist) * dist + cls.new_tensor(self.offset or 0.0)


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
    targets = torch.cat([targets for _, targets in answers])
    chosen = _spread(targets, MOST_LOGITS // cls.shape[1])
    return free | fit_fusions(TokenLogits(cls[chosen], dist[chosen]), targets[chosen], groups)


def _spread(targets: Tensor, most: int) -> Tensor:
    """At most so many of N images, a class's first image before another's second: their places, in order."""
    order = targets.argsort(stable=True)
    sizes = torch.bincount(targets)
    starts = sizes.cumsum(0) - sizes
    turn = torch.empty_like(targets)
    turn[order] = torch.arange(len(targets)) - starts[targets[order]]
    return turn.argsort(stable=True)[: max(most, 1)].sort().values


def fit_fusions(logits: TokenLogits, targets: Tensor, groups: Mapping[str, Sequence[int]]) -> dict[str, WeightedTokens]:
    """Fit every rule on held-out images, each class counted alike however few images it has.

    Three rules minimise the mean over the classes of the negative log-likelihood. ``matched`` gives each token
    its own temperature (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2), then
    takes the mean; ``fused`` has one weight between the tokens, ``group_fused`` one for each of head, mid and tail.
    ``least_regret`` has a weight and an offset for each group, and makes the worst group's loss of expected
    recall, against the token that is better at that group, as small as can be: no expert is wasted.

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
    rules = {rule: WeightedTokens(tuple(u.tolist()), tuple(v.tolist())) for rule, (u, v) in fitted.items()}
    return rules | {"least_regret": _least_regret(cls, dist, targets, group_of)}


def _least_regret(cls: Tensor, dist: Tensor, targets: Tensor, group_of: Tensor) -> WeightedTokens:
    """group_of: [C], the place of each class's group; the other arguments as in `_fit_all`."""
    groups = int(group_of.max()) + 1
    best = torch.maximum(_recalls(cls, targets, group_of), _recalls(dist, targets, group_of))

    def fused(p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        share = p[:groups].sigmoid()[group_of]
        return 2 * share, 2 * (1 - share), p[groups:][group_of]

    def worst(p: Tensor) -> Tensor:
        u, v, offset = fused(p)
        regrets = best - _recalls((u * cls + v * dist + offset).log_softmax(dim=1), targets, group_of)
        return (SHARPNESS * regrets[~regrets.isnan()]).logsumexp(dim=0) / SHARPNESS

    u, v, offset = fused(_descend(worst, 2 * groups))
    return WeightedTokens(tuple(u.tolist()), tuple(v.tolist()), tuple(offset.tolist()))


def _recalls(log_probabilities: Tensor, targets: Tensor, group_of: Tensor) -> Tensor:
    """Each group's expected recall, [G]: the mean over its classes of the truth's probability; NaN without images."""
    classes, groups = len(group_of), int(group_of.max()) + 1
    truth = log_probabilities.exp().gather(1, targets[:, None]).squeeze(1)
    seen = torch.bincount(targets, minlength=classes)
    recall = truth.new_zeros(classes).index_add(0, targets, truth) / seen.clamp(min=1)
    present = (seen > 0).to(truth)
    total = truth.new_zeros(groups).index_add(0, group_of, recall)
    return total / truth.new_zeros(groups).index_add(0, group_of, present)


def _split(share: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
    """The class token's share, [C], as both tokens' weights."""
    return log_scale.exp() * share, log_scale.exp() * (1 - share)


def _minimise(
    weights: Callable[[Tensor], tuple[Tensor, Tensor]], size: int, cls: Tensor, dist: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """The weights, [C] a token, of the parameters with the least balanced loss; 0 is the plain mean."""
    share = 1 / torch.bincount(targets, minlength=cls.shape[1])[targets].double()

    def loss(p: Tensor) -> Tensor:
        u, v = weights(p)
        return (share * F.cross_entropy(u * cls + v * dist, targets, reduction="none")).sum() / share.sum()

    return weights(_descend(loss, size))


def _descend(loss: Callable[[Tensor], Tensor], size: int) -> Tensor:
    """The parameters, [size], at which the loss is least, held near 0."""
    parameters = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([parameters], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = loss(parameters) + RIDGE * parameters.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return parameters.detach()


def _log_probabilities(logits: TokenLogits) -> tuple[Tensor, Tensor]:
    assert logits.dist is not None, "there is nothing to fuse"
    return logits.cls.double().log_softmax(dim=1), logits.dist.double().log_softmax(dim=1)
