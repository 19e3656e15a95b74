import subprocess
import sys

from deitlt.engine.processes import without_ranks


def test_a_file_where_one_stands_hides_no_module_from_a_child_unless_it_does_here(tmp_path, monkeypatch):
    (tmp_path / "tty.py").write_text("raise SystemExit(3)")
    command = [sys.executable, "-c", "import tty"]
    assert subprocess.run(command, env=without_ranks(), check=False).returncode == 0
    monkeypatch.syspath_prepend(tmp_path)
    assert subprocess.run(command, env=without_ranks(), check=False).returncode == 3


def test_a_child_is_no_rank_of_this_processs_group(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("KEPT", "1")
    assert "LOCAL_RANK" not in without_ranks()
    assert without_ranks()["KEPT"] == "1"
