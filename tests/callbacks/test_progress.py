import io
import re

import pytest
from rich.console import Console

from deitlt.callbacks import StageProgress


def shown(make_trainer, module, batches, terminal, epochs=10, **options):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=100)
    trainer = make_trainer(callbacks=[StageProgress("student", console, **options)], max_epochs=epochs)
    trainer.fit(module, batches)
    return stream.getvalue()


def test_prints_a_few_lines_where_nobody_watches(make_trainer, student_module, student_batches):
    lines = shown(make_trainer, student_module(), student_batches(2), terminal=False).splitlines()
    assert [re.match(r"student: epoch (\d+)/10, loss \d\.\d{3}, \d+ s$", line)[1] for line in lines] == list(
        map(str, range(2, 11, 2))
    )


@pytest.mark.parametrize(("epochs", "expected"), [(1, [1]), (3, [1, 2, 3]), (7, [3, 6, 7])])
def test_the_last_epoch_is_always_told(make_trainer, student_module, student_batches, epochs, expected):
    lines = shown(make_trainer, student_module(), student_batches(1), False, epochs, lines=2).splitlines()
    assert [int(re.search(r"epoch (\d+)/", line)[1]) for line in lines] == expected


def test_shows_a_bar_on_a_terminal(make_trainer, student_module, student_batches):
    text = shown(make_trainer, student_module(), student_batches(2), terminal=True, epochs=2)
    assert "2/2 epochs" in text
    assert re.search(r"loss \d\.\d{3}", text)


@pytest.mark.parametrize("terminal", [True, False])
def test_an_epoch_that_logged_no_loss_is_shown_without_one(make_trainer, student_module, student_batches, terminal):
    module = student_module()
    module.log = lambda *_, **__: None
    text = shown(make_trainer, module, student_batches(1), terminal, epochs=1)
    assert "nan" not in text
    assert "loss" not in text
    assert ("1/1 epochs" in text) if terminal else re.fullmatch(r"student: epoch 1/1, \d+ s\n", text)


def test_gives_the_terminal_back_after_an_error(make_trainer, student_module):
    console = Console(file=io.StringIO(), force_terminal=True)
    progress = StageProgress("student", console)
    with pytest.raises(AttributeError):
        make_trainer(callbacks=[progress]).fit(student_module(), [0])
    assert progress._bar is None
    assert not console._live_stack
