import pytest
import torch
from PIL import Image

from deitlt.cli import main
from deitlt.tasks import inspect
from deitlt.tasks.inspect import caption

NAMES = ("ant", "bee", "cat")


def test_both_pictures_are_written_and_named(tiny, tmp_path, capfd):
    assert main(["inspect", *tiny, "paths.output_dir=seen"]) == 0
    printed = capfd.readouterr().out.split()
    for name in ("views.png", "classes.png"):
        path = tmp_path / "seen" / name
        assert str(path) in printed
        with Image.open(path) as image:
            assert min(image.size) > 200
            assert len(image.convert("RGB").getcolors(2**24)) > 50
    assert {path.name for path in (tmp_path / "seen").iterdir()} == {"views.png", "classes.png"}


@pytest.mark.parametrize(
    "words", [["method=vit"], ["student/distillation=soft"], ["student.teacher_view.renormalise=true"]]
)
def test_it_takes_the_overrides_of_train(words, tiny, tmp_path):
    kept = [word for word in tiny if not word.startswith("student.drw")] if "vit" in words[0] else tiny
    assert main(["inspect", *kept, *words, "paths.output_dir=seen"]) == 0
    assert (tmp_path / "seen" / "views.png").exists()


def test_views_of_a_batch_are_shown_mixed_and_as_the_teacher_sees_them(tiny, monkeypatch):
    shown = {}

    def keep(examples, path):
        shown["examples"] = examples
        path.write_bytes(b"")
        return path

    monkeypatch.setattr(inspect, "view_grid", keep)
    assert main(["inspect", *tiny, "teacher.image_size=12", "paths.output_dir=seen"]) == 0
    examples = shown["examples"]
    assert len(examples) == inspect.EXAMPLES
    assert {example.student.shape for example in examples} == {(16, 16, 3)}
    assert {example.teacher.shape for example in examples} == {(12, 12, 3)}
    assert any(" + " in example.caption for example in examples)
    assert all(example.student.min() >= 0 and example.student.max() <= 1 for example in examples)


def test_a_caption_names_the_classes_that_were_mixed():
    assert caption(torch.tensor(1), NAMES) == "bee"
    assert caption(torch.tensor([0.63, 0.03, 0.34]), NAMES) == "0.63 ant + 0.34 cat"
    assert caption(torch.tensor([0.05, 0.9, 0.05]), NAMES) == "0.90 bee"


def test_what_train_refuses_inspect_refuses(complain, tiny):
    assert "is not a folder" in complain("inspect", *tiny, "data=folder", "data.root=nowhere")
    assert "is not a whole number" in complain("inspect", *tiny, "student.epochs=abc")
