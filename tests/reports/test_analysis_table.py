import io

from rich.console import Console

from deitlt.reports.analysis_table import analysis_lines, analysis_table

_WHOLE = {"eigenvalue": 70.0, "trace": 500.0, "trace_error": 108.0, "images": 1200}
_TAIL = {"eigenvalue": 8.0, "trace": -3.0, "trace_error": 0.0, "images": 25}


def test_the_hessian_counts_each_groups_images_and_names_a_saddle():
    found = {"kind": "teacher", "sharpness": {"all": _WHOLE, "tail": _TAIL}}
    assert analysis_lines(found) == [
        "Hessian: of the loss of 1,200 training images (tail 25)",
        "Hessian: a negative trace is a saddle's, so these weights are at no minimum",
    ]
    assert analysis_lines({"kind": "teacher", "sharpness": {"all": _WHOLE}}) == [
        "Hessian: of the loss of 1,200 training images"
    ]


def test_a_trace_has_its_standard_error():
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(analysis_table({"kind": "teacher", "sharpness": {"all": _WHOLE, "tail": _TAIL}}, "t"))
    shown = console.export_text()
    assert "500 ± 108" in shown
    assert "-3 ± " not in shown
