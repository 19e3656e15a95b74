"""What a stage's device decides: precision, layout, compiling; and whole compiled stages."""

import json
from functools import partial

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf, open_dict

from deitlt.checkpoints import read_checkpoint
from deitlt.cli import main
from deitlt.config.compose import config_dir
from deitlt.engine import build as building
from deitlt.engine.build import build_data, build_module, build_spec
from deitlt.engine.run_folder import RunFolder
from deitlt.engine.stage_config import StageConfig, make_stage
from deitlt.models import PaCoNetwork, compile_network

MORE = ("student.model.drop_path=0.1", "evaluate_every=1", "data.val_fraction=0.2")


@pytest.fixture
def stage_of(tiny, tmp_path, compose_train):
    """Makes a stage of the tiny run, with some of its trainer's settings as a GPU would have them."""

    def make(name, *words, **trainer):
        stage = make_stage(compose_train(*tiny, *words), RunFolder(tmp_path / "run"), name)
        stage.trainer.update(trainer)
        return stage

    return make


@pytest.fixture
def compose_train():
    def make(*words):
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            return compose("train", overrides=["paths.output_dir=run", *words])

    return make


def built(stage):
    return build_module(stage, build_data(stage).info)


def test_a_cpu_computes_in_float32_uncompiled_and_a_cnn_channels_last(stage_of):
    stage = stage_of("student")
    assert stage.trainer["precision"] == "32-true"
    assert stage.trainer["compile"] is False
    module = built(stage)
    assert module.network._compiled_call_impl is None
    assert not module.network._forward_pre_hooks
    teacher = built(stage_of("teacher")).network
    assert teacher.layer2[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert len(teacher._forward_pre_hooks) == 1


def test_a_gpus_teacher_is_laid_out_and_compiled(stage_of):
    module = built(stage_of("teacher", accelerator="gpu", precision="bf16-mixed", compile=True))
    network = module.network
    assert network.layer2[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert len(network._forward_pre_hooks) == 1
    assert network._compiled_call_impl is not None
    assert not any("_orig_mod" in name for name in module.state_dict())


@pytest.mark.parametrize(
    ("accelerator", "precision", "fused"),
    [("cpu", "bf16-mixed", False), ("cpu", "32-true", True), ("gpu", "bf16-mixed", True)],
)
def test_only_a_cpus_bfloat16_attends_by_products(stage_of, accelerator, precision, fused):
    network = built(stage_of("student", accelerator=accelerator, precision=precision)).network
    assert {block.attn.fused_attn for block in network.vit.blocks} == {fused}


def test_a_gpus_student_is_compiled(stage_of):
    module = built(stage_of("student", accelerator="gpu", compile=True))
    assert module.network._compiled_call_impl is not None
    assert not module.network._forward_pre_hooks


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], "graphs"),
        (["student.batch_size=8"], True),  # its gradient waits for the next micro-batch
        (["trainer.devices=2"], True),
        (["trainer.accelerator=cpu"], False),
    ],
)
def test_cuda_graphs_are_for_one_gpu_without_accumulation(compose_train, tiny, monkeypatch, tmp_path, words, found):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr("deitlt.engine.stage_config._missing_to_compile", lambda accelerator: None)
    config = compose_train(*tiny, "trainer=gpu", "trainer.compile=graphs", *words)
    assert make_stage(config, RunFolder(tmp_path), "student").trainer["compile"] == found


@pytest.mark.parametrize("is_gpu_lost", [False, True])
def test_where_cuda_graphs_fail_a_stage_goes_on_from_its_last_epoch_without_them(
    tiny_vit, monkeypatch, tmp_path, capsys, is_gpu_lost
):
    calls = {"reduce-overhead": 0, None: 0}

    def backend(graph, inputs, mode=None):
        def run(*args):
            calls[mode] += 1
            if calls["reduce-overhead"] == 8:  # in the second epoch; of a lost GPU each call fails from then on
                calls["reduce-overhead"] += not is_gpu_lost
                raise RuntimeError("overwritten by a subsequent run.\nStack trace:")
            return graph.forward(*args)

        return run

    monkeypatch.setattr("deitlt.engine.stage_config.choose_compile", lambda compile_, accelerator: "graphs")
    monkeypatch.setattr(building, "compile_network", partial(compile_network, backend=backend))
    run = tmp_path / "run"
    words = [*(word for word in tiny_vit if not word.startswith("student.epochs")), "student.epochs=3"]
    if is_gpu_lost:
        with pytest.raises(RuntimeError, match="overwritten"):
            main(["train", *words, f"paths.output_dir={run}"])
        calls.update({"reduce-overhead": 9, None: 0})
        words = [f"resume={run}"]
    else:
        words += [f"paths.output_dir={run}"]
    assert main(["train", *words]) == 0
    line = "student: CUDA graphs failed (overwritten by a subsequent run); it goes on without them"
    assert capsys.readouterr().out.splitlines().count(line) == 1
    assert calls == {"reduce-overhead": 9, None: 10}  # two epochs of five updates
    assert (run / "student" / "graphs_failed.txt").read_text() == "overwritten by a subsequent run\n"
    assert (run / "metrics.json").exists()


def test_both_encoders_of_paco_are_prepared(compose_train, tmp_path):
    stage = make_stage(compose_train("experiment=digits_paco"), RunFolder(tmp_path), "teacher")
    stage.trainer.update(accelerator="gpu", compile=True)
    network = built(stage).network
    assert isinstance(network, PaCoNetwork)
    for encoder in (network.encoder_q, network.encoder_k):
        assert encoder.backbone._compiled_call_impl is not None
        assert len(encoder.backbone._forward_pre_hooks) == 1


def test_the_card_says_what_a_network_is_and_not_how_it_was_trained(stage_of):
    stage = stage_of("student", "student.model.checkpointing=true")
    assert built(stage).network.vit.grad_checkpointing
    data = build_data(stage)
    spec = build_spec(stage, data)
    assert "checkpointing" not in spec.model
    assert {"name", "depth", "width"} <= set(spec.model)


def test_an_older_runs_configuration_still_makes_a_stage(stage_of, compose_train, tiny, tmp_path):
    config = compose_train(*tiny)
    with open_dict(config):
        del config.trainer["compile"]
    config.trainer.precision = "32-true"
    stage = make_stage(config, RunFolder(tmp_path), "student")
    assert stage.trainer["compile"] is False
    assert isinstance(stage, StageConfig)


@pytest.fixture
def compiled(monkeypatch):
    """Has networks compiled without a compiler: traced, and run as traced; counts the graphs."""
    graphs = []
    backend = lambda graph, inputs: graphs.append(graph) or graph.forward  # noqa: E731
    monkeypatch.setattr(building, "compile_network", partial(compile_network, backend=backend))
    return graphs


@pytest.fixture(scope="module")
def eager(tiny, tmp_path_factory):
    run = tmp_path_factory.mktemp("eager") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run.parent)
        assert main(["train", *tiny, *MORE, f"paths.output_dir={run}"]) == 0
    return run


def weights(run, stage):
    content = read_checkpoint(run / stage / "last.ckpt")
    return {f"{kind}.{name}": value for kind in ("state_dict", "ema") for name, value in content.get(kind, {}).items()}


@pytest.mark.slow
def test_compiled_stages_end_where_eager_ones_do(tiny, eager, compiled, tmp_path, capsys):
    run = tmp_path / "run"
    words = [*tiny, *MORE, "trainer.compile=true", f"paths.output_dir={run}"]
    assert main(["train", *words]) == 0
    said = capsys.readouterr().out
    for stage in ("teacher", "student"):
        found, expected = weights(run, stage), weights(eager, stage)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=f"{stage} {name}")
        assert f"{stage}: first step " in said
        result = json.loads((run / stage / "result.json").read_text())
        assert 0 < result["first_step_seconds"] < result["seconds"] + 1
    # Teacher: both passes of SAM, for whole and short batches. Labeller and student: whole and short ones.
    assert len(compiled) <= 8


def test_a_run_on_a_cpu_is_neither_compiled_nor_unlike_its_recipe(trained):
    stage = OmegaConf.load(trained / "student" / "stage.yaml")
    assert stage.trainer.precision == "32-true"
    assert stage.trainer.compile is False
    assert stage.run.trainer.precision == "auto"
    assert not any("precision" in line for line in stage.run.recipe.differences)
    result = json.loads((trained / "student" / "result.json").read_text())
    assert result["first_step_seconds"] is None  # resumed after its last epoch, and only tested


def test_what_cannot_be_compiled_is_one_sentence(tiny_vit, monkeypatch, tmp_path, capfd):
    def broken(graph, inputs):
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(building, "compile_network", partial(compile_network, backend=broken))
    assert main(["train", *tiny_vit, "trainer.compile=true", f"paths.output_dir={tmp_path / 'run'}"]) == 2
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    assert "cannot be compiled" in said[0]
    assert "no such instruction" in said[0]
    assert said[0].endswith("type trainer.compile=false.")
