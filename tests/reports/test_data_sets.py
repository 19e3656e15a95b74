from deitlt.reports.data_sets import by_data, data_title
from deitlt.reports.runs import Run


def test_runs_of_one_data_set_stand_together(tmp_path, metrics):
    runs = [Run(tmp_path / str(i), "digits", i, dict(metrics)) for i in range(4)]
    runs[1].metrics["counts"] = [9, 9, 9, 9, 9]
    runs[3].metrics["counts"] = [1, 2, 3, 4, 5]
    found = by_data(runs)
    assert [len(together) for together in found.values()] == [2, 1, 1]
    assert next(iter(found)) == "data without a name, as it is: 5 classes, 1,303 images"


def test_equal_titles_of_different_data_are_numbered(tmp_path, metrics):
    runs = [Run(tmp_path / str(i), "digits", i, dict(metrics)) for i in range(3)]
    runs[1].metrics["class_names"] = list("vwxyz")
    runs[2].metrics["class_names"] = list("lmnop")
    title = data_title(metrics)
    assert list(by_data(runs)) == [title, f"{title} (2)", f"{title} (3)"]


def test_a_title_says_data_and_tail(metrics):
    assert data_title({**metrics, "data": "digits", "imbalance_factor": 0.05}).startswith("digits, imbalance 20: 5 cl")
