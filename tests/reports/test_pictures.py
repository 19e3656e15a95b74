import base64
import io

import numpy as np
from PIL import Image

from deitlt.reports.pictures import embed, pictures


def picture(path, size, noisy=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3)) if noisy else np.zeros((*size[::-1], 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def test_a_small_picture_is_kept_as_it_is(tmp_path):
    file = picture(tmp_path / "a.png", (40, 30))
    found = embed(file, "caption", "alt")
    assert base64.b64decode(found.source.removeprefix("data:image/png;base64,")) == file.read_bytes()
    assert (found.width, found.height) == (40, 30)


def test_a_large_one_is_drawn_smaller(tmp_path):
    file = picture(tmp_path / "a.png", (2000, 600), noisy=True)
    found = embed(file, "caption", "alt")
    kind, _, data = found.source.partition(",")
    assert kind == "data:image/webp;base64"
    assert len(data) < file.stat().st_size / 3
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (found.width, found.height) == (1400, 420)


def test_what_is_no_picture_is_left_out(tmp_path):
    (tmp_path / "views.png").write_text("<script>alert(1)</script>")
    assert pictures(tmp_path) == []


def test_views_and_the_last_rollouts_of_a_run_are_found(tmp_path):
    for name in ("views.png", "student/views.png", "baseline/views.png", "student/analysis/rank.png"):
        picture(tmp_path / name, (8, 8))
    picture(tmp_path / "student/analysis/epoch_0001_rollout.png", (8, 8))
    picture(tmp_path / "student/analysis/epoch_0010_rollout.png", (16, 8))
    views, rollout = pictures(tmp_path)
    assert views.caption.startswith("Training images, the student's view of each")
    assert rollout.width == 16
    assert "the student's tokens" in rollout.caption
    assert "white is as much" in rollout.caption
    assert "1, as much as by chance" in rollout.alt


def test_a_student_without_a_teacher_has_no_view_for_one(tmp_path):
    picture(tmp_path / "student/views.png", (8, 8))
    (taught,), (alone,) = pictures(tmp_path), pictures(tmp_path, taught=False)
    assert "the teacher labels" in taught.caption
    assert "teacher" not in alone.caption + alone.alt
