import pytest
import torch

from deitlt.callbacks import SharpnessAwareMinimization


def passes(make_trainer, module, batches, sam, **options):
    """How often images went forward, and gradients back, through the network."""
    counts = {"forward": 0, "backward": 0, "weights": 0}

    def count(name):
        def hook(*args):
            counts[name] += 1

        return hook

    module.network.register_forward_hook(count("forward"))
    module.network.linear.register_full_backward_hook(count("backward"))
    module.network.linear.weight.register_hook(count("weights"))
    callbacks = [SharpnessAwareMinimization(0.1)] if sam else []
    trainer = make_trainer(callbacks=callbacks, **options)
    trainer.fit(module, batches)
    return counts, trainer.global_step


@pytest.mark.parametrize("accumulate", [1, 3])
def test_sam_adds_one_forward_and_one_backward_a_batch(make_trainer, teacher_module, student_batches, accumulate):
    options = {"accumulate_grad_batches": accumulate}
    plain, updates = passes(make_trainer, teacher_module(), student_batches(6), sam=False, **options)
    sharp, same_updates = passes(make_trainer, teacher_module(), student_batches(6), sam=True, **options)
    assert plain == {"forward": 6, "backward": 6, "weights": 6}
    assert sharp == {name: 2 * count for name, count in plain.items()}
    assert updates == same_updates == 6 // accumulate


def test_each_batch_is_completed_once(make_trainer, teacher_module, student_batches):
    transferred = []
    module = teacher_module()
    module.on_after_batch_transfer = lambda batch, index: transferred.append(torch.get_rng_state()) or batch
    passes(make_trainer, module, student_batches(6), sam=True)
    assert len(transferred) == 6
