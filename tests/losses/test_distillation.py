from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from deitlt.errors import ConfigError
from deitlt.losses import BalancedSoftmaxLoss, CrossEntropyLoss, DistillationLoss, weighted_cross_entropy
from deitlt.losses.distillation import soft_distillation
from deitlt.types import TokenLogits

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "losses.npz")


def golden(name):
    return torch.from_numpy(GOLDEN[name])


def student(dtype=torch.float64):
    return TokenLogits(golden("in_logits_cls").to(dtype), golden("in_logits_dist").to(dtype))


TEACHER, LABELS, WEIGHTS = golden("in_teacher_logits"), golden("in_labels"), golden("in_weights64")


def assert_equal(actual, expected, rtol=1e-9, atol=0.0):
    torch.testing.assert_close(actual.detach(), expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    ("kind", "name", "weighted", "labels"),
    [
        ("hard", "distill_hard_now_softlabels", False, "soft_labels"),
        ("hard", "distill_hard_w_softlabels", True, "soft_labels"),
        ("hard", "distill_hard_w_intlabels", True, "labels"),
        ("soft", "distill_soft_tau3_now_softlabels", False, "soft_labels"),
    ],
)
def test_parts_and_gradients_equal_the_authors(kind, name, weighted, labels):
    logits = TokenLogits(*(part.requires_grad_() for part in student()))
    loss = DistillationLoss(kind, alpha=0.5, tau=3.0)
    loss.reweight(WEIGHTS if weighted else None)
    terms = loss(logits, golden(f"in_{labels}"), TEACHER)
    terms.loss.backward()
    assert_equal(terms.loss, golden(f"{name}_f64__loss"))
    assert_equal(terms.cls, golden(f"{name}_f64__base_part"))
    assert_equal(terms.dist, golden(f"{name}_f64__dist_part"))
    assert_equal(logits.cls.grad, golden(f"{name}_f64__grad_cls"), atol=1e-14)
    assert_equal(logits.dist.grad, golden(f"{name}_f64__grad_dist"), atol=1e-14)


@pytest.mark.parametrize(("dtype", "suffix", "rtol"), [(torch.float64, "f64", 1e-9), (torch.float32, "f32", 1e-5)])
def test_soft_and_weighted_has_the_sound_target(dtype, suffix, rtol):
    target = F.softmax(TEACHER.to(dtype) / 3 + WEIGHTS.to(dtype).log(), dim=1)
    assert_equal(target, golden(f"softw_tau3_sound_target_prob_{suffix}"), rtol=rtol)
    loss = DistillationLoss("soft", alpha=1.0, tau=3.0, class_weights=WEIGHTS)
    terms = loss(student(dtype), LABELS, TEACHER)
    assert_equal(terms.dist, golden(f"softw_tau3_sound_dist_loss_alpha1_{suffix}"), rtol=rtol)
    assert terms.loss == terms.dist


def test_soft_distillation_is_zero_where_student_and_teacher_agree():
    assert_equal(soft_distillation(TEACHER, TEACHER, tau=3.0), torch.tensor(0.0).double(), atol=1e-12)
    assert soft_distillation(-TEACHER, TEACHER, tau=3.0) > 0.1


def test_soft_distillation_has_the_gradient_of_its_value():
    dist = golden("in_logits_dist")[:4].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: soft_distillation(x, TEACHER[:4], 3.0, WEIGHTS), dist)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_hard_labels_and_logits_teach_the_same(dtype):
    loss = DistillationLoss("hard", class_weights=WEIGHTS)
    labels = TEACHER.argmax(dim=1).to(dtype)
    assert loss(student(), LABELS, labels) == loss(student(), LABELS, TEACHER)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_alpha_shares_the_loss(alpha):
    terms = DistillationLoss("hard", alpha=alpha)(student(), LABELS, TEACHER)
    cls, dist = F.cross_entropy(student().cls, LABELS), F.cross_entropy(student().dist, TEACHER.argmax(1))
    assert_equal(terms.cls, (1 - alpha) * cls)
    assert_equal(terms.dist, alpha * dist)
    assert_equal(terms.loss, terms.cls + terms.dist)


@pytest.mark.parametrize("labels", ["labels", "soft_labels"])
def test_without_a_teacher_both_tokens_learn_the_targets(labels):
    targets = golden(f"in_{labels}")
    terms = DistillationLoss("none", alpha=0.4, class_weights=WEIGHTS)(student(), targets)
    assert_equal(terms.cls, 0.6 * F.cross_entropy(student().cls, targets))
    assert_equal(terms.dist, 0.4 * weighted_cross_entropy(student().dist, targets, WEIGHTS))


@pytest.mark.parametrize("make", [CrossEntropyLoss, BalancedSoftmaxLoss])
def test_deferred_reweighting_reaches_a_class_token_that_is_alone(make):
    counts = GOLDEN["in_cls_num_list"].tolist()
    loss = DistillationLoss("none", cls_loss=make(counts))
    alone = TokenLogits(student().cls, None)
    loss.reweight(WEIGHTS)
    assert loss(alone, LABELS).loss == make(counts, class_weights=WEIGHTS)(alone.cls, LABELS)
    loss.reweight(None)
    assert loss(alone, LABELS).loss == loss(alone, LABELS).cls == make(counts)(alone.cls, LABELS)
    assert loss.state_dict() == {}


def test_the_class_loss_keeps_weights_of_its_own():
    own = CrossEntropyLoss(class_weights=WEIGHTS)
    expected = F.cross_entropy(student().cls, LABELS, WEIGHTS)
    assert_equal(DistillationLoss("hard", cls_loss=own)(student(), LABELS, TEACHER).cls, 0.5 * expected)
    assert_equal(DistillationLoss("none", cls_loss=own)(TokenLogits(student().cls, None), LABELS).cls, expected)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_half_precision_is_computed_in_float32(kind):
    loss = DistillationLoss(kind, class_weights=WEIGHTS)
    terms = loss(student(torch.bfloat16), golden("in_soft_labels").float(), TEACHER.bfloat16())
    assert terms.loss.dtype == torch.float32
    assert_equal(terms.loss.double(), loss(student(), golden("in_soft_labels"), TEACHER).loss, rtol=0.02)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_a_student_without_a_distillation_token_cannot_be_taught(kind):
    with pytest.raises(ConfigError, match=r"has none.* type student/distillation=none"):
        DistillationLoss(kind)(TokenLogits(student().cls, None), LABELS, TEACHER)


def test_hard_labels_cannot_teach_softly():
    with pytest.raises(ConfigError, match="student/distillation=hard"):
        DistillationLoss("soft")(student(), LABELS, TEACHER.argmax(1))


def test_a_missing_teacher_is_a_bug():
    with pytest.raises(AssertionError, match="teacher"):
        DistillationLoss("hard")(student(), LABELS, None)


def test_deferred_weights_weigh_the_class_token_only_if_asked_to():
    plain, weighed = (DistillationLoss("hard", weigh_cls=weigh) for weigh in (False, True))
    for loss in (plain, weighed):
        loss.reweight(WEIGHTS)
    unweighted, weighted = (loss(student(), LABELS, TEACHER) for loss in (plain, weighed))
    assert_equal(unweighted.cls, 0.5 * F.cross_entropy(student().cls, LABELS))
    assert_equal(weighted.cls, 0.5 * F.cross_entropy(student().cls, LABELS, WEIGHTS))
    assert_equal(weighted.dist, unweighted.dist)
    weighed.reweight(None)
    assert_equal(weighed(student(), LABELS, TEACHER).cls, unweighted.cls)
