"""Compiled networks under a Trainer, with everything that happens around their steps."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from deitlt.callbacks import DeferredReweighting, SeededSteps, SharpnessAwareMinimization, StudentAveraging
from deitlt.models import compile_network


@pytest.fixture(autouse=True)
def no_graphs_of_others():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def compiled(module, graphs):
    compile_network(module.network, backend=lambda graph, inputs: graphs.append(graph) or graph.forward)
    return module


def weights(module):
    return torch.cat([value.flatten().double() for value in module.network.state_dict().values()])


@pytest.fixture
def fit(make_trainer, student_batches, tmp_path):
    """Trains with seeds, SAM, re-weighting and an average; returns the weights and the average."""

    def run(module, epochs=3, ckpt_path=None):
        averaging = StudentAveraging(0.5)
        last = ModelCheckpoint(tmp_path, "last", save_on_train_epoch_end=True, enable_version_counter=False)
        callbacks = [SeededSteps(0), DeferredReweighting(2, (40, 20, 8, 2)), SharpnessAwareMinimization(0.1)]
        made = make_trainer(callbacks=[*callbacks, averaging, last], max_epochs=epochs, enable_checkpointing=True)
        made.fit(module, student_batches(), ckpt_path=ckpt_path, weights_only=True)
        return weights(module), torch.cat([p.detach().flatten() for p in averaging.average.module.parameters()])

    return run


def test_a_compiled_student_ends_where_an_eager_one_does(fit, student_module):
    graphs = []
    found = fit(compiled(student_module(drop_path=0.3), graphs))
    torch.testing.assert_close(found, fit(student_module(drop_path=0.3)), rtol=1e-4, atol=1e-6)
    assert len(graphs) == 1  # for both of SAM's passes, with class weights and without


def test_a_teacher_has_a_graph_for_each_of_sams_passes(fit, teacher_module):
    graphs = []
    found = fit(compiled(teacher_module(), graphs))
    torch.testing.assert_close(found, fit(teacher_module()), rtol=1e-4, atol=1e-6)
    assert len(graphs) == 2  # BatchNorm counts in one of them


def test_a_resumed_compiled_student_ends_where_an_uninterrupted_one_does(fit, student_module, tmp_path):
    whole = fit(compiled(student_module(drop_path=0.3), []), epochs=3)
    fit(compiled(student_module(drop_path=0.3), []), epochs=2)
    torch.compiler.reset()  # a resumed run is another process
    resumed = fit(compiled(student_module(drop_path=0.3), []), epochs=3, ckpt_path=tmp_path / "last.ckpt")
    assert torch.equal(resumed[0], whole[0])
    assert torch.equal(resumed[1], whole[1])
