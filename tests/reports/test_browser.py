"""The page in a real browser: nothing complains, and nothing is wider than a phone."""

import re
import shutil
import subprocess

import pytest

from deitlt.reports import read_runs, report_html

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
  const letters = charts.map(c => 13 * c.getBoundingClientRect().width / 360).filter(size => size > 0);
  document.getElementById("seen").textContent =
    `wide=${{root.scrollWidth}} charts=${{charts.length}} letters=${{Math.min(...letters)}}`;
}};
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_a_phone_shows_the_page_without_errors(make_run, student_analysis, tmp_path):
    history = [student_analysis(1), student_analysis(4)]
    folders = [make_run(name, analyses={"student": student_analysis()}, history=history).run.folder for name in "ab"]
    text = report_html(read_runs(folders))
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
    assert letters >= 11  # pixels
