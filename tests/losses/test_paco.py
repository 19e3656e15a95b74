from pathlib import Path

import numpy as np
import pytest
import torch

from deitlt.errors import DataError
from deitlt.losses import LogitAdjustedLoss, PaCoLoss

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "paco_loss.npz")
COUNTS = GOLDEN["c10_cls_num_list"].tolist()
ALPHA, BETA, GAMMA, SUP_T, T, K = GOLDEN["c10_hp_alpha_beta_gamma_supt_T_K"].tolist()
BATCH = 32
LABELS = torch.from_numpy(GOLDEN["c10_labels"])


def golden_loss(**changes):
    return PaCoLoss(COUNTS, **{"alpha": ALPHA, "beta": BETA, "gamma": GAMMA, "temperature": T, **changes})


def inputs(dtype=torch.float64):
    return (torch.from_numpy(GOLDEN[f"c10_{name}"]).to(dtype).requires_grad_() for name in ("features", "sup_logits"))


def golden(name):
    return torch.from_numpy(GOLDEN[f"c10_{name}"])


@pytest.mark.parametrize(("dtype", "name", "rtol"), [(torch.float32, "f32", 1e-5), (torch.float64, "f64", 1e-6)])
def test_loss_and_all_gradients_equal_the_authors(dtype, name, rtol):
    features, logits = inputs(dtype)
    loss = golden_loss(sup_temperature=SUP_T)(features, LABELS, logits)
    loss.backward()
    torch.testing.assert_close(loss.detach(), golden(f"loss_{name}"), rtol=rtol, atol=0)
    torch.testing.assert_close(features.grad[:BATCH], golden(f"grad_features_query_{name}"), rtol=1e-4, atol=rtol)
    torch.testing.assert_close(
        features.grad[BATCH:].norm(), golden(f"grad_features_rest_norm_{name}"), rtol=rtol, atol=0
    )
    torch.testing.assert_close(logits.grad, golden(f"grad_sup_{name}"), rtol=1e-4, atol=rtol)


def test_gradients_in_training_go_to_the_queries_alone():
    features, logits = inputs()
    queries = features[:BATCH].detach().requires_grad_()
    golden_loss()(torch.cat([queries, features[BATCH:].detach()]), LABELS, logits).backward()
    torch.testing.assert_close(queries.grad, golden("grad_query_onlyq_f64"), rtol=1e-6, atol=1e-8)


def test_no_constant_enters_a_logarithm():
    features, logits = inputs()
    torch.testing.assert_close(
        golden_loss()(features, LABELS, logits).detach(), golden("loss_exact64"), rtol=1e-9, atol=0
    )


def by_hand(features, labels, logits, counts, alpha, beta, gamma, sup_t, t):
    """Each query's term, written with explicit sums."""
    prior = torch.tensor(counts, dtype=torch.float64).div(sum(counts)).log()
    terms = []
    for i in range(len(logits)):
        others = [j for j in range(len(features)) if j != i and labels[j] >= 0]
        centre = (logits[i] + prior) / sup_t
        to_row = {j: features[i] @ features[j] / t for j in others}
        total = centre.exp().sum() + gamma * sum(value.exp() for value in to_row.values())
        positives = [j for j in others if labels[j] == labels[i]]
        gained = beta * (centre[labels[i]] - total.log()) + alpha * sum(to_row[j] - total.log() for j in positives)
        terms.append(-gained / (beta + alpha * len(positives)))
    return torch.stack(terms)


def small_batch(num_classes, batch=5, queue=7, seed=0):
    stream = torch.Generator().manual_seed(seed)
    features = torch.randn(2 * batch + queue, 4, generator=stream, dtype=torch.float64)
    labels = torch.randint(num_classes, (batch,), generator=stream)
    labels = torch.cat([labels, labels, torch.randint(num_classes, (queue,), generator=stream)])
    logits = torch.randn(batch, num_classes, generator=stream, dtype=torch.float64)
    return torch.nn.functional.normalize(features, dim=1), labels, logits


@pytest.mark.parametrize("num_classes", [3, 101])
def test_the_loss_is_its_formula_for_any_number_of_classes(num_classes):
    features, labels, logits = small_batch(num_classes)
    counts = list(range(num_classes, 0, -1))
    options = {"alpha": 0.3, "beta": 1.5, "gamma": 0.7, "sup_temperature": 2.0, "temperature": 0.4}
    expected = by_hand(features, labels, logits, counts, *options.values()).mean()
    torch.testing.assert_close(PaCoLoss(counts, **options)(features, labels, logits), expected, rtol=1e-12, atol=0)


def test_rows_that_no_key_has_filled_do_not_count():
    features, labels, logits = small_batch(3)
    loss = PaCoLoss([9, 5, 2])
    kept = loss(features[:12], labels[:12], logits)
    labels[12:] = -1
    features[12:] = 0
    torch.testing.assert_close(loss(features, labels, logits), kept, rtol=1e-12, atol=0)
    features[12:] = 100
    features.requires_grad_()
    masked = loss(features, labels, logits)
    masked.backward()
    torch.testing.assert_close(masked.detach(), kept, rtol=1e-12, atol=0)
    assert torch.equal(features.grad[12:], torch.zeros(5, 4, dtype=torch.float64))


def test_without_rows_it_is_logit_adjustment():
    features, labels, logits = small_batch(3)
    logits.requires_grad_()
    loss = PaCoLoss([9, 5, 2], alpha=0, gamma=0)(features.requires_grad_(), labels, logits)
    expected = LogitAdjustedLoss([9, 5, 2])(logits, labels[:5])
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, logits)[0])
    loss.backward()
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_class_weights_weigh_the_queries():
    features, labels, logits = small_batch(3)
    weights = torch.tensor([0.1, 1.0, 3.0], dtype=torch.float64)
    loss = PaCoLoss([9, 5, 2], alpha=0.3)
    plain = loss(features, labels, logits)
    loss.reweight(weights)
    terms, picked = by_hand(features, labels, logits, [9, 5, 2], 0.3, 1, 1, 1, 0.05), weights[labels[:5]]
    torch.testing.assert_close(loss(features, labels, logits), (picked * terms).sum() / picked.sum())
    loss.reweight(None)
    assert loss(features, labels, logits) == plain


def test_large_similarities_stay_finite():
    features, labels, logits = small_batch(3)
    features, logits = features.float().requires_grad_(), (1000 * logits).float()
    loss = PaCoLoss([9, 5, 2], temperature=1e-4)(features, labels, logits)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(features.grad).all()


def test_half_precision_takes_no_digits_away():
    features, labels, logits = small_batch(3)
    half = features.bfloat16()
    loss = PaCoLoss([9, 5, 2], alpha=0.3)
    exact = loss(half.float(), labels, logits.float())
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(half, labels, logits.float())
    assert value.dtype == torch.float32
    assert value == exact


def test_an_empty_class_is_named_and_nothing_is_stored():
    with pytest.raises(DataError, match="class 1 has 0 training images"):
        PaCoLoss([5, 0])
    assert PaCoLoss([5, 2]).state_dict() == {}
