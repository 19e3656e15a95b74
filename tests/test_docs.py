"""What the pages, the help, the Makefile and the notebooks tell a reader to type or name is there, and works."""

import ast
import functools
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from deitlt.cli import HYDRA_VERBS, PLAIN_VERBS, main
from deitlt.config.checks import check_overrides, check_values
from deitlt.config.compose import config_dir
from deitlt.config.keys import walk
from deitlt.config.reference import choices_of, groups_of
from deitlt.config.verbs import EXAMPLES, SCHEMAS
from deitlt.engine.sweep import check_sweep

ROOT = Path(__file__).parents[1]
PAGES = sorted(path for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")] if path.name != "config.md")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
VERBS = (*HYDRA_VERBS, *PLAIN_VERBS, "--help")
pages = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])

# What a command may leave out where a sentence speaks of the verb.
NEEDED = {
    **{verb: {"checkpoint": "RUN"} for verb in ("evaluate", "export", "analyze")},
    "predict": {"checkpoint": "RUN", "images": "FOLDER"},
}
NOT_OURS = ("weights_only", "use_distributed_sampler")  # nor environment variables, in capitals
STAND_INS = {"VERB": "train", "experiment=NAME": "experiment=folder_cpu", "sweep=NAME": "sweep=alpha"}
WORD = re.compile(r"\+{0,2}~?[a-zA-Z_][\w./]*=\S+")


def text_of(page):
    return page.read_text(encoding="utf-8").replace("\\\n", " ")


def inline(page):
    """What stands between backquotes, outside of blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL))


def commands(page):
    """The words of each `deitlt ...`: of blocks, of tables and of sentences, as (verb, word, ...)."""
    blocks = re.findall(r"^(?:\$ |    )(?:.*\s)?deitlt (.*)$", text_of(page), re.MULTILINE)
    spoken = [found[1] for code in inline(page) if (found := re.search(r"(?:^|[\s(/])deitlt (.+)", code))]
    return [words for line in [*blocks, *spoken] if (words := _words(line))[0] in VERBS]


def _words(line):
    """Without comments, ellipses and what a pipe leads to; the shell's variables are numbers, VERB is one verb."""
    line = re.sub(r"\)?\"$|\\?\s*\|.*", "", re.sub(r"\$[A-Z_]+", "2", line))
    words = [STAND_INS.get(word, word) for word in shlex.split(line, comments=True) if word != "..."]
    return ("report", "outputs", *words[1:]) if words[0] == "report" and all("-" in w for w in words[1:]) else (*words,)


COMMANDS = sorted(
    {words for page in PAGES for words in commands(page)}
    | {tuple(shlex.split(command)) for rows in EXAMPLES.values() for command, _ in rows}
    | {
        _words(line)
        for line in re.findall(r"\$\(BIN\)/deitlt (.*?)(?: >.*)?$", text_of(ROOT / "Makefile"), re.MULTILINE)
    }
)
RECIPES = [words for words in COMMANDS if words[0] in HYDRA_VERBS and "--help" not in words]
ELSEWHERE = re.compile(
    r"-m|wandb|hf:|data=hf|data=torchvision|push=|data_root=|cifar|imagenet|inat|places|timm:|STUDENT|\.pth|init=|devices=|FILE|checkpoint=teacher|^benchmark"
)
RUN_HERE = [words for words in RECIPES if not ELSEWHERE.search(" ".join(words))]
COMPOSED = [words for words in RECIPES if words not in RUN_HERE]
ONLINE = [("workspace",), ("workspace", "ENTITY/PROJECT")]
LIGHT = [words for words in COMMANDS if words not in RECIPES]


def test_the_commands_of_blocks_tables_and_sentences_are_found():
    assert ("export", "checkpoint=run", "output=model") in COMMANDS
    assert ("train", "experiment=imagenet_lt", "trainer.devices=8") in COMMANDS
    assert ("list", "keys", "student.drw") in COMMANDS
    assert len(COMMANDS) > 100


def overrides_of(verb, words):
    given = {word.partition("=")[0] for word in words}
    return [*words, *(f"{key}={value}" for key, value in NEEDED.get(verb, {}).items() if key not in given)]


@pytest.mark.parametrize("words", RECIPES, ids=" ".join)
def test_every_word_of_a_command_is_a_key_a_choice_or_a_value_that_there_is(words):
    verb, *rest = words
    check_overrides(rest, HYDRA_VERBS[verb][0], sweeps="-m" in rest)


@pytest.mark.parametrize("words", COMPOSED, ids=" ".join)
def test_what_cannot_be_run_here_composes_into_what_the_schema_allows(words):
    verb, *rest = words
    name = HYDRA_VERBS[verb][0]
    first = [first_value(word) for word in overrides_of(verb, rest) if not word.startswith(("-m", "hydra"))]
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        check_values(compose(name, overrides=first), name)


def first_value(word):
    """The override with the first of the values that it sweeps."""
    key, _, value = word.partition("=")
    ends = re.fullmatch(r"(?:tag\(log, )?(?:interval|range)\(([^,]+),.*", value)
    return f"{key}={ends[1]}" if ends else word if "[" in value else f"{key}={value.partition(',')[0]}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [words for words in RECIPES if "-m" in words and "sweep=" not in str(words)], ids=" ".join
)
def test_every_job_of_a_sweep_is_allowed(words):
    rest = [word for word in words[1:] if not word.startswith(("hydra/launcher", "hydra.launcher"))]  # extras
    check_sweep([*rest, "paths.output_dir=here"])


@functools.cache
def known_keys():
    """The dotted names of all verbs, and those of the nodes that they lie in."""
    names = {key.name for schema in SCHEMAS.values() for key in walk(schema)}
    nodes = {name.rsplit(".", depth)[0] for name in names for depth in range(1, name.count(".") + 1)}
    return names | nodes


@pages
def test_every_key_and_choice_that_a_sentence_names_is_there(page):
    groups = {group: {one.name for one in choices_of(group)} for group in groups_of()}
    for code in inline(page):
        words = code.split()
        if not all(WORD.fullmatch(word.strip("'")) for word in words):
            continue
        for word in words:
            key, _, value = word.strip("'").lstrip("+~").partition("=")
            if key in groups and not set("NAMECF.") & set(value):
                assert set(value.split(",")) <= groups[key] | {"null"}, f"{page.name}: {word}"
            elif not (key.isupper() or key.startswith("hydra") or word.startswith("+") or key in (*groups, *NOT_OURS)):
                assert key in known_keys(), f"{page.name}: {word}"


@pages
def test_every_dotted_key_that_a_sentence_names_is_there(page):
    roots = {key.partition(".")[0] for key in known_keys() if "." in key}
    for code in inline(page):
        if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", code) and code.partition(".")[0] in roots:
            is_file = code.rpartition(".")[2] in ("json", "yaml", "csv", "html", "png", "md", "ckpt")
            assert is_file or code in known_keys(), f"{page.name}: {code}"


@pages
def test_links_and_names_of_files_lead_to_files(page):
    named = re.findall(r"\]\(([^)#]+)\)", text_of(page))
    named += [code for code in inline(page) if re.fullmatch(r"(docs|tests|conf|src|notebooks)/[\w./]+", code)]
    for name in (name for name in named if "://" not in name):
        assert (page.parent / name).exists() or (ROOT / name).exists(), name


@pages
def test_every_target_of_make_is_there(page):
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^\$ )make ([a-z-]+)", text_of(page), re.MULTILINE)) <= targets


@pages
def test_every_file_of_docs_is_shown_or_linked_somewhere(page):
    everything = "".join(text_of(other) for other in PAGES)
    assert page.name == "README.md" or page.name in everything
    for picture in (ROOT / "docs").glob("*.[pj][np]g"):
        assert f"{picture.name})" in everything, picture


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_imports_names_and_types_words_that_there_are(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    tree = ast.parse("\n".join("".join(cell["source"]) for cell in cells))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("deitlt"):
            exec(ast.unparse(node), {})
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and WORD.fullmatch(node.value):
            key = node.value.partition("=")[0]
            assert key in known_keys() or key in groups_of(), node.value


@pytest.fixture(scope="module")
def place(tmp_path_factory, trained):
    """A folder in which the names that the pages use are there: a finished run, folders of images."""
    home = tmp_path_factory.mktemp("reader")
    for run in ("RUN", "run", "SWEEP_A", "SWEEP_B", "sam", "plain", "vit", "teacher_sam", "teacher_plain", "outputs/0"):
        shutil.copytree(trained, home / run)
    (home / "multirun" / "DATE").mkdir(parents=True)
    (home / "multirun" / "DATE" / "TIME").symlink_to(home / "outputs")
    rng = np.random.default_rng(0)
    for split, counts in (("train", (12, 8, 4)), ("test", (2, 2, 2))):
        for name, count in zip("abc", counts, strict=True):
            (home / "FOLDER" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(home / "FOLDER" / split / name / f"{i}.png")
    for name in ("shapes", "new"):
        (home / name).symlink_to(home / "FOLDER")
    Image.fromarray(pixels).save(home / "cat.jpg")
    return home


@pytest.mark.parametrize(
    "words", [words for words in LIGHT if words[0] != "report" and words not in ONLINE], ids=" ".join
)
def test_every_light_command_answers(words, capfd):
    assert main(words) == 0
    assert capfd.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("words", [words for words in LIGHT if words[0] == "report"], ids=" ".join)
def test_every_report_is_written(words, place, monkeypatch, capfd):
    monkeypatch.chdir(place)
    assert main(words) == 0
    assert capfd.readouterr().out


# What makes a documented training last seconds; what a method has taken away stays away.
SHORT = shlex.split(
    "data.num_workers=0 analysis.every=null trainer=cpu report=false paths.output_dir=HERE/run teacher.epochs=1 "
    "teacher.drw=null teacher.images_per_update=16 student.epochs=1 student.drw=null student.images_per_update=16 "
    "student.schedule.warmup_epochs=0 student.model.width=16 student.model.depth=1 student.model.heads=2"
)
FEW = shlex.split(
    "images=12 sharpness.images=4 sharpness.products=2 sharpness.probes=1 num_workers=0 agreement.images=8"
)
FAST = {"train": SHORT, "inspect": SHORT, "analyze": FEW, "export": ["output=HERE/new"], "predict": [], "evaluate": []}


@pytest.mark.slow
@pytest.mark.parametrize("words", RUN_HERE, ids=" ".join)
def test_every_command_that_can_be_made_small_runs(words, place, tmp_path, monkeypatch):
    verb, *rest = words
    monkeypatch.chdir(place)
    (place / "RUN" / "metrics.json").unlink(missing_ok=True)  # as if it had been interrupted at its very end
    small = [] if "resume=RUN" in rest else [word.replace("HERE", str(tmp_path)) for word in FAST[verb]]
    small += ["data.expects=null"] if "experiment=cifar10_cpu" in rest else []
    kept = {word.partition("=")[0]: word for word in [*overrides_of(verb, rest), *small]}
    assert main([verb, *kept.values()]) == 0
