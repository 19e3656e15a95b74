import json
import shutil

import pytest

from deitlt.cli import main


@pytest.fixture
def two_seeds(trained, tmp_path):
    """The trained run and the same of another seed, whose DIST is two points better in the tail."""
    for seed in (0, 1):
        run = tmp_path / "runs" / str(seed)
        shutil.copytree(trained, run)
        metrics = json.loads((run / "metrics.json").read_text())
        metrics["seed"] = seed
        metrics["student"]["dist"]["tail"] = 20.0 + 2 * seed
        (run / "metrics.json").write_text(json.dumps(metrics))
    return tmp_path / "runs"


def rows(table):
    """Row's name -> its cells."""
    lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in lines[0]] == ["run", "all", "head", "mid", "tail", "seeds"]
    return {cells[0]: cells[1:] for cells in lines[2:]}


def test_two_seeds_make_one_table_with_mean_and_spread(two_seeds, capfd):
    assert main(["report", str(two_seeds)]) == 0
    found = rows(capfd.readouterr().out)
    (name,) = (name for name in found if name.endswith("student DIST"))
    assert found[name][-2:] == ["21.0 ± 1.4", "2"]
    assert any("plain ViT" in name for name in found)
    assert any("teacher" in name for name in found)


def test_runs_may_be_named_one_by_one_and_written_to_a_file(two_seeds, tmp_path, capfd):
    output = tmp_path / "table.md"
    assert main(["report", str(two_seeds / "0"), str(two_seeds / "1"), "--output", str(output)]) == 0
    assert output.read_text() == capfd.readouterr().out
    assert "last epoch" in output.read_text()


def test_an_evaluation_is_no_experiment_but_is_read_from_its_own_folder(two_seeds, tmp_path, capfd):
    run = two_seeds / "0"
    words = ["accelerator=cpu", f"paths.output_dir={two_seeds / 'evaluated'}"]
    assert main(["evaluate", f"checkpoint={run}", *words]) == 0
    capfd.readouterr()
    assert main(["report", str(two_seeds)]) == 0
    assert "evaluated" not in capfd.readouterr().out
    assert main(["report", str(two_seeds / "evaluated")]) == 0
    assert "evaluated" in capfd.readouterr().out


def test_runs_of_different_data_have_tables_of_their_own(two_seeds, capfd):
    path = two_seeds / "1" / "metrics.json"
    path.write_text(path.read_text().replace('"counts": [20', '"counts": [21'))
    assert main(["report", str(two_seeds)]) == 0
    first, second = capfd.readouterr().out.split("## ")[1:]
    assert first.startswith("digits, imbalance 10: 10 classes, ")
    assert first.count("\n| digits") == second.count("\n| digits") > 3


@pytest.mark.parametrize("words", [["--html=pages/all.html"], ["--html", "pages/all.html"]])
def test_a_page_is_written_beside_the_table(words, two_seeds, tmp_path, capfd):
    assert main(["report", str(two_seeds), *words]) == 0
    shown = capfd.readouterr()
    assert shown.err == "written to pages/all.html\n"
    assert rows(shown.out)
    page = (tmp_path / "pages" / "all.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "digits, imbalance 10: 2 runs" in page
    assert "21.0 <small>± 1.4</small>" in page


def test_the_comparison_with_the_paper_is_printed_and_written(two_seeds, tmp_path, capfd):
    assert main(["report", "--paper", str(two_seeds)]) == 0
    shown = capfd.readouterr()
    assert shown.out == (tmp_path / "paper_report.md").read_text()
    assert shown.err == "written to paper_report.md\n"
    assert shown.out.startswith("# Finished runs beside the published numbers\n")
    assert "changed recipe 1 |" in shown.out
    assert "CIFAR-10-LT, imbalance 100: teacher LDAM+DRW+SAM; teacher PaCo+SAM; ViT;" in shown.out


def test_the_comparison_takes_runs_of_different_data_and_another_file(two_seeds, tmp_path, capfd):
    path = two_seeds / "1" / "metrics.json"
    path.write_text(path.read_text().replace('"counts": [20', '"counts": [21'))
    assert main(["report", str(two_seeds), "--paper", "--output", "docs/table.md"]) == 0
    shown = capfd.readouterr()
    assert shown.out == (tmp_path / "docs" / "table.md").read_text()
    assert shown.out.count("\n## ") == 2
    assert not (tmp_path / "paper_report.md").exists()


def test_the_pages_figures_are_written_as_pictures(two_seeds, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(two_seeds), "--pictures", "drawn"]) == 0
    written = sorted((tmp_path / "drawn").rglob("*.png"))
    assert f"written to drawn: {len(written)} pictures" in capfd.readouterr().err
    assert {file.name for file in written} >= {"groups.png"}
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in written)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--paper"], "required: RUN; type deitlt report RUN"),
        (["--paper", "empty"], "empty holds no finished run"),
        (["--paper", "broken"], "metrics.json is not readable JSON"),
        (["--paper", "nothing"], "nothing/metrics.json holds no run's accuracies (there is no accuracy of a teacher"),
        (["nothing", "--output", "empty"], "--output empty is a folder; type --output empty/"),
        (["nothing", "--html", "empty"], "--html empty is a folder; type --html empty/report.html."),
        (["nothing", "--pictures", "broken/metrics.json"], "--pictures broken/metrics.json is a file; type a folder"),
        (["nowhere", "--html", "page.html"], "nowhere holds no finished run"),
    ],
)
def test_runs_that_cannot_be_compared_are_named(words, said, complain, tmp_path):
    for name, content in (("empty", None), ("broken", "{"), ("nothing", "{}")):
        (tmp_path / name).mkdir()
        if content is not None:
            (tmp_path / name / "metrics.json").write_text(content)
    assert said in complain("report", *words, output=None)
