import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from deitlt.callbacks import FirstStep, SharpnessAwareMinimization, first_step


def fitted(make_trainer, module, batches, console=None, **options):
    first = FirstStep("student", console)
    made = make_trainer(callbacks=[first], **options)
    made.fit(module, batches)
    return first


@pytest.mark.parametrize("accumulate", [1, 3])
def test_it_ends_with_the_first_update(make_trainer, student_module, student_batches, monkeypatch, accumulate):
    clock = iter([100.0, 107.5])  # it looks no third time
    monkeypatch.setattr(first_step, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    ended = []
    module = student_module()
    module.on_train_batch_end = lambda outputs, batch, batch_idx: ended.append(first.seconds)
    first = FirstStep("student")
    trainer = make_trainer(callbacks=[first], accumulate_grad_batches=accumulate, max_epochs=2)
    trainer.fit(module, student_batches())
    assert first.seconds == 7.5
    assert ended[: accumulate - 1] == [None] * (accumulate - 1)
    assert ended[accumulate - 1 :] == [7.5] * (13 - accumulate)


def test_one_line_where_it_has_a_console(make_trainer, teacher_module, student_batches):
    text = io.StringIO()
    fitted(make_trainer, teacher_module(), student_batches(), Console(file=text), max_epochs=2)
    assert text.getvalue().count("\n") == 1
    assert "student: first step " in text.getvalue()
    assert "compiling included" in text.getvalue()


def test_sams_second_pass_belongs_to_it(make_trainer, teacher_module, student_batches):
    module, passes = teacher_module(), []
    first = FirstStep("teacher")
    plain = module.training_step

    def noted(batch, batch_idx):
        passes.append(first.seconds)
        return plain(batch, batch_idx)

    module.training_step = noted
    make_trainer(callbacks=[SharpnessAwareMinimization(0.1), first]).fit(module, student_batches())
    assert passes[:2] == [None, None]
    assert passes[2] is not None
