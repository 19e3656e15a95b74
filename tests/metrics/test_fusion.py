import pytest
import torch
from torch.nn import functional as F

from deitlt.metrics import WeightedTokens, fit_fusions, fusion, fusions_for, mean_of_probabilities
from deitlt.types import TokenLogits

C = 6
GROUPS = {"head": [0, 1], "mid": [2, 3], "tail": [4, 5]}
COUNTS = torch.tensor([60, 40, 20, 15, 8, 5])


def experts(seed=0, counts=COUNTS):
    """CLS knows the head and is sure of it, DIST knows the tail; targets are long-tailed."""
    stream = torch.Generator().manual_seed(seed)
    targets = torch.repeat_interleave(torch.arange(C), counts)
    truth = F.one_hot(targets, C).float()
    noise = [torch.randn(len(targets), C, generator=stream) for _ in range(2)]
    prior = torch.tensor([4.0, 4, 2, 2, 0, 0])
    head = (targets < 2)[:, None]
    cls = 6 * truth * head + prior + noise[0]
    dist = (3 - 1.8 * head) * truth + noise[1]
    return TokenLogits(cls, dist), targets


def balanced(logits, targets):
    right = logits.argmax(1) == targets
    return float(torch.stack([right[targets == c].float().mean() for c in range(C)]).mean())


def balanced_loss(logits, targets):
    each = F.cross_entropy(logits.double(), targets, reduction="none")
    return float(torch.stack([each[targets == c].mean() for c in range(C)]).mean())


def test_the_mean_of_probabilities_is_that():
    logits, _ = experts()
    expected = (logits.cls.double().softmax(1) + logits.dist.double().softmax(1)) / 2
    torch.testing.assert_close(mean_of_probabilities(logits).softmax(1), expected)


def test_each_rule_has_the_weights_that_it_says():
    rules = fit_fusions(*experts(), GROUPS)
    assert set(rules) == {"matched", "fused", "group_fused", "least_regret"}
    for name in ("matched", "fused"):
        assert len(set(rules[name].cls)) == len(set(rules[name].dist)) == 1
    by_group = rules["group_fused"]
    assert all(by_group.cls[a] == by_group.cls[b] for a, b in GROUPS.values())
    assert len(set(by_group.cls)) == 3
    sums = torch.tensor(by_group.cls) + torch.tensor(by_group.dist)
    torch.testing.assert_close(sums, sums[:1].expand(C))
    assert min(by_group.cls + by_group.dist) >= 0
    least = rules["least_regret"]
    assert torch.tensor(least.cls) + torch.tensor(least.dist) == pytest.approx(2 * torch.ones(C))
    assert all((least.cls[a], least.offset[a]) == (least.cls[b], least.offset[b]) for a, b in GROUPS.values())


def test_a_fit_finds_the_least_loss_along_its_only_direction():
    logits, targets = experts()
    found = fit_fusions(logits, targets, GROUPS)["fused"]
    scale, share = found.cls[0] + found.dist[0], found.cls[0] / (found.cls[0] + found.dist[0])

    def loss_at(share):
        fused = WeightedTokens((scale * share,) * C, (scale * (1 - share),) * C)(logits)
        penalty = torch.tensor([scale, share / (1 - share)]).double().log().square().sum()
        return balanced_loss(fused, targets) + 1e-3 * float(penalty)

    best = loss_at(share)
    assert best <= min(loss_at(share + step) for step in (-0.02, -0.005, 0.005, 0.02)) + 1e-9


def test_what_was_fitted_beats_the_plain_mean_on_images_that_it_never_saw():
    logits, targets = experts(seed=1, counts=torch.full((C,), 100))
    rules = fit_fusions(*experts(seed=0), GROUPS)
    mean = balanced((logits.cls + logits.dist) / 2, targets)
    for rule in rules.values():
        assert balanced(rule(logits), targets) > mean + 0.03


def test_fitting_works_where_tensors_have_no_gradient():
    logits, targets = experts()
    with torch.inference_mode():
        inside = fit_fusions(TokenLogits(logits.cls * 1.0, logits.dist * 1.0), targets * 1, GROUPS)
    outside = fit_fusions(logits, targets, GROUPS)
    assert inside["fused"].cls == pytest.approx(outside["fused"].cls)


@pytest.mark.parametrize("kept_classes", [5, 4])
def test_a_class_or_a_group_without_held_out_images_leaves_every_rule_finite(kept_classes):
    logits, targets = experts()
    kept = targets < kept_classes
    rules = fit_fusions(TokenLogits(logits.cls[kept], logits.dist[kept]), targets[kept], GROUPS)
    assert all(torch.isfinite(torch.tensor(rule.cls + rule.dist + rule.offset)).all() for rule in rules.values())


def test_without_held_out_images_nothing_is_fitted():
    logits, targets = experts()
    assert list(fusions_for(lambda images: logits, None, GROUPS)) == ["mean_prob"]
    batches = [(torch.arange(70), targets[:70]), (torch.arange(70, len(targets)), targets[70:])]
    rules = fusions_for(lambda i: TokenLogits(logits.cls[i], logits.dist[i]), batches, GROUPS)
    assert rules["fused"] == fit_fusions(logits, targets, GROUPS)["fused"]


def group_recalls(logits, targets):
    right = logits.argmax(1) == targets
    return [
        float(torch.stack([right[targets == c].float().mean() for c in members]).mean()) for members in GROUPS.values()
    ]


def test_least_regret_wastes_neither_expert():
    logits, targets = experts(seed=1, counts=torch.full((C,), 200))
    fused = group_recalls(fit_fusions(*experts(seed=0), GROUPS)["least_regret"](logits), targets)
    cls, dist = group_recalls(logits.cls, targets), group_recalls(logits.dist, targets)
    assert cls[0] > dist[0] + 0.05
    assert dist[2] > cls[2] + 0.2
    assert fused[0] > cls[0] - 0.03
    assert fused[2] > dist[2] - 0.1
    mean = group_recalls((logits.cls + logits.dist) / 2, targets)
    assert mean[2] < fused[2] - 0.1


def test_a_fit_looks_at_so_many_images_and_at_every_class_first(monkeypatch):
    monkeypatch.setattr(fusion, "MOST_LOGITS", 9 * C)
    logits, targets = experts()
    seen = []
    monkeypatch.setattr(fusion, "fit_fusions", lambda logits, targets, groups: seen.append(targets) or {})
    fusions_for(lambda images: logits, [(torch.zeros(1), targets)], GROUPS)
    assert seen[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 4, 5]
