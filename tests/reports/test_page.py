import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deitlt.reports.figures import COLOURS
from deitlt.reports.page import (
    commands,
    facts,
    measured_in_words,
    report_html,
    results_in_words,
    trained_in_words,
)
from deitlt.reports.runs import read_runs

STYLE = Path(__file__).parents[2] / "src" / "deitlt" / "reports" / "templates" / "style.css"
NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((path for name in NAMES if (path := shutil.which(name))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--v=0"),
)
PHONE = 360  # pixels
# A page beside the report looks into it as a phone would, and writes down what it sees.
WATCH = """<!DOCTYPE html><iframe id="phone" style="border:0;width:{width}px;height:800px" srcdoc="{page}"></iframe>
<pre id="seen"></pre><script>
const phone = document.getElementById("phone");
phone.onload = () => {{
  const seen = phone.contentDocument, root = seen.documentElement;
  const charts = [...seen.querySelectorAll("svg[role=img]")];
  const size = chart => 10 * chart.getBoundingClientRect().width / chart.viewBox.baseVal.width;
  const letters = charts.map(size).filter(found => found > 0);
  document.getElementById("seen").textContent =
    `wide=${{root.scrollWidth}} charts=${{charts.length}} letters=${{Math.min(...letters)}}`;
}};
</script>"""
VOID = ("meta", "link", "input", "img", "br")


class Page(HTMLParser):
    """The elements of a page, and whether each that was opened was closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.astray = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.astray.append(tag)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def full(make_run, student_analysis):
    """Makes runs with analyses and a picture, by their names."""

    def make(*names, **changes):
        runs = []
        for seed, name in enumerate(names):
            history = [student_analysis(1), student_analysis(4)]
            run = make_run(name, analyses={"student": student_analysis()}, history=history, **{"seed": seed, **changes})
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(run.folder / "student" / "views.png")
            runs.append(run)
        return runs

    return make


def test_the_page_is_sound_and_its_links_lead_somewhere(full):
    found = Page(report_html(full("a", "b")))
    assert found.open == found.astray == []
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"] for link in found.all("a")} <= {f"#{name}" for name in ids}
    for _, attributes in found.elements:
        assert attributes.get("aria-labelledby", ids[0]) in ids


def test_nothing_is_fetched_and_nothing_runs(full):
    text = report_html(full("a"))
    assert "<script" not in text
    assert re.findall(r'(?:src|href)="(?!data:|#)', text) == []
    assert "url(" not in text
    assert "default-src 'none'; img-src data:" in text


def test_every_picture_and_table_says_what_it_shows(full):
    found = Page(report_html(full("a", "b")))
    assert found.all("img")
    assert all(len(image["alt"]) > 40 and image["src"].startswith("data:image/") for image in found.all("img"))
    charts = found.all("svg")
    assert len(charts) > 8
    assert all(chart["role"] == "img" and re.search(r"\d", chart["aria-label"]) for chart in charts)
    assert all("scope" in head for head in found.all("th"))
    assert "main" in [tag for tag, _ in found.elements]
    assert [tag for tag, _ in found.elements if tag in ("h1", "h2")] == ["h1", "h2"]


def test_means_and_spread_over_seeds_stand_in_the_table(make_run):
    runs = [make_run("a"), make_run("b", seed=5, teacher={"all": 97.04})]
    assert "± " not in report_html(runs[:1])
    assert "96.0 <small>± 1.4</small>" in report_html(runs)


def test_a_name_may_hold_any_characters(full):
    names = ["<script>alert(1)</script>", '"quoted"', "a & b", "{{ 7 * 7 }}", "\u2028é"]
    changes = {"experiment": "</style><b onload=x>", "recipe_differences": ["<img src=x>"]}
    text = report_html(full("a", class_names=names, **changes))
    found = Page(text)
    assert found.open == found.astray == []
    assert "<script" not in text
    assert "<img src=x" not in text
    assert "<b onload" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "{{ 7 * 7 }}" in text


def test_runs_of_different_data_are_parts_of_their_own_and_counted_in_the_title(make_run):
    of = {"data": "digits", "imbalance_factor": 0.05}
    runs = [make_run(str(n), counts=[n] * 5, **of) for n in (7, 8)]
    text = report_html(runs)
    found = Page(text)
    assert len(found.all("article")) == len(found.all("nav")) == 2
    assert found.open == found.astray == []
    assert "<h1>digits, imbalance 20: 2 runs of 2 data sets</h1>" in text
    again = report_html([runs[0], make_run("9", counts=[7] * 5, seed=1, **of)])
    assert "<h1>digits, imbalance 20: 2 runs</h1>" in again


def test_a_run_of_metrics_alone_has_a_page(tmp_path, metrics, make_run):
    folder = make_run("a").folder
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.name != "metrics.json":
            file.unlink()
    text = report_html(read_runs([folder]))
    assert "Class by class" not in text
    assert "The paper&#39;s claims" in text or "The paper's claims" in text


def test_thousands_of_classes_stay_a_small_page(make_run):
    counts = list(range(8142, 0, -1))
    names = [f"a rather long name of a species {i}" for i in range(8142)]
    groups = {"head": list(range(842)), "mid": list(range(842, 4543)), "tail": list(range(4543, 8142))}
    folder = make_run("a", counts=counts, class_names=names, groups=groups).folder
    rows = [f"{name},head,{count},90,80,{count % 100},70" for name, count in zip(names, counts, strict=True)]
    (folder / "per_class.csv").write_text("class,group,train_images,teacher,CLS,DIST,AVG\n" + "\n".join(rows))
    text = report_html(read_runs([folder]))
    assert len(text.encode()) < 500_000


def test_the_colours_are_those_of_the_pictures():
    light = dict(re.findall(r"--(\w+): (#\w+)", STYLE.read_text().partition("@media")[0]))
    assert {name: light[name] for name in COLOURS} == COLOURS | {"paper": light["paper"]}


def luminance(colour):
    """Relative luminance, WCAG 2.2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(first, second):
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_and_lines_can_be_told_from_the_paper(scheme):
    parts = STYLE.read_text().split(":root {")
    colours = dict(re.findall(r"--(\w+): (#\w+)", parts[1 + scheme]))
    text = ("ink", "faint", "accent", "good", "part", "bad")
    assert min(contrast(colours[name], colours[ground]) for name in text for ground in ("paper", "wash")) >= 4.5
    lines = ("cls", "dist", "avg", "teacher", "vit", "patches", "s3", "s4")
    assert min(contrast(colours[name], colours["paper"]) for name in lines) >= 2.95


def test_runs_stand_in_the_order_in_which_they_were_given(make_run):
    text = report_html([make_run(name, experiment=name) for name in ("b", "a", "B")])
    assert [name[0] for name in re.findall(r'scope="rowgroup" colspan="5">([^<]+)<', text)][:3] == ["b", "a", "B"]


def test_what_all_changed_recipes_changed_is_told_once(make_run):
    changes = {"a": ["x is 1", "y is 2"], "b": ["x is 1", "y is 3"], "c": ["x is 1"]}
    runs = [make_run(name, recipe_differences=found) for name, found in changes.items()]
    text = report_html(runs)
    said = [
        "Every changed recipe: x is 1.",
        "Changed recipe 1, beside that: y is 2.",
        "Changed recipe 3, beside that: ",
    ]
    assert all(words in text for words in said)
    alone = report_html([make_run("d", recipe_differences=["x is 1"]), runs[2]])
    assert "Changed recipe 1: x is 1." in alone
    assert "Every changed" not in alone


def test_equal_pictures_are_shown_once(full):
    text = report_html([*full("first", experiment="first"), *full("second", experiment="second")])
    assert len(Page(text).all("img")) == 1
    assert re.search(r"its teacher labels it: as of first[^<]*\.</p>", text)


def test_a_line_that_is_alone_among_several_experiments_is_named(make_run, student_analysis):
    runs = [make_run("a", analyses={"student": student_analysis()}), make_run("b", experiment="other")]
    text = report_html(runs)
    chart = text[text.index("<figcaption>Patches: mean attention distance") :]
    assert ">digits (changed recipe 1)</text>" in chart[: chart.index("</figure>")]


def test_what_was_trained_is_told(make_run):
    words = trained_in_words(make_run())
    assert "A teacher, deit_tiny, was trained for 4 epochs with SAM." in words
    assert "A student, deit_tiny (depth 4), whose DIST token learns the teacher's hard decisions" in words
    assert "from epoch 2 on its loss is re-weighted for the tail" in words
    assert "plain ViT of the same size" in words


def test_results_are_in_order_and_without_a_tail_nothing_is_told(make_run):
    assert results_in_words([make_run()]) == (
        "In the tail the teacher is right on 90.0 % of the images, DIST on 69.3 %, AVG on 48.9 %, the plain ViT on "
        "27.6 % and CLS on 27.2 %. Over all test images the teacher is right on 95.0 %, DIST on 86.1 %, AVG on "
        "81.0 %, the plain ViT on 74.4 % and CLS on 73.8 %."
    )
    assert results_in_words([make_run("a", teacher={"all": 90.0}, student=None, baseline=None)]) == ""


def test_commands_are_those_that_were_typed_but_for_the_folder(make_run):
    run = make_run()
    run.config["recipe"]["overrides"] += ["data.root=my pictures", "paths.output_dir=runs/a"]
    first, second, *_, last = commands(run)
    assert first == ("Train it again", "deitlt train experiment=digits seed=0 'data.root=my pictures'")
    assert second[1] == f"deitlt evaluate checkpoint={run.folder}"
    assert last[1] == f"deitlt report {run.folder} --html=report.html"
    del run.config["recipe"]["overrides"]
    said = "Its recipe, without what the run changed in it"
    assert commands(run)[0] == (said, "deitlt train experiment=digits seed=0")


def test_facts_are_in_words(make_run):
    found = facts(make_run(seconds={"teacher": 100.0, "student": 400.0, "baseline": 90000}, versions={"torch": "2.15"}))
    assert found["Time"] == "teacher 100 s; student 7 min; plain ViT 25.0 h"
    assert found["Machine"] == "1 CPU, 32-true"
    assert found["Versions"] == "torch 2.15"
    assert found["Reported epoch"] == "last epoch"
    assert "Method" not in found


def test_what_was_measured_on_is_told(make_run):
    assert measured_in_words([make_run("a")]) == ""
    found = {"epoch": 150, "images": 1256, "split": "train", "rank": {}, "diversity": {}}
    runs = [make_run(name, analyses={"student": found}) for name in "bc"]
    assert measured_in_words(runs) == "Measured after 150 epochs on 1,256 training images."
    unknown = make_run("d", analyses={"student": {"epoch": 1, "rank": {}}})
    assert measured_in_words([unknown]) == "Measured after 1 epoch on its images."


def test_parts_that_were_measured_on_other_images_are_told_apart(make_run, student_analysis):
    while_training = student_analysis(4) | {"images": 256, "split": "val"}
    analysed = {"epoch": 3, "split": "test", "images": 500, "rank": {}, "calibration": {}}
    run = make_run("a", history=[while_training], analyses={"student": {"epoch": 4, "split": "test", "agreement": {}}})
    assert measured_in_words([run]) == "Measured after 4 epochs on 256 validation images."
    run = make_run("b", history=[while_training], analyses={"student": analysed})
    assert measured_in_words([run]) == (
        "Measured after 4 epochs on 256 validation images: attention distance, diversity and winners; "
        "after 3 epochs on 500 test images: rank and calibration."
    )


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_a_phone_shows_the_page_without_errors(full, tmp_path):
    text = report_html(full("a", "b"))
    text = text.replace("&", "&amp;").replace('"', "&quot;")
    page = tmp_path / "watch.html"
    page.write_text(WATCH.format(width=PHONE, page=text))
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [BROWSER, *FLAGS, profile, "--virtual-time-budget=4000", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    wide, charts, letters = map(float, re.search(r">wide=(\d+) charts=(\d+) letters=([\d.]+)<", done.stdout).groups())
    assert wide <= PHONE
    assert charts >= 10
    assert letters >= 9.5  # pixels, of ten points
