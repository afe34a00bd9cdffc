"""The command line: quick help, clean pipes, one sentence for a mistake, and nothing acts on the terminal."""

import json
import re
import socket
import subprocess
import sys

import pytest
from toys import WORD_COUNT, Toy, toy_package

from workbench import __main__ as command_line
from workbench import terminal
from workbench.__main__ import answer
from workbench.options import read_knobs
from workbench.progress import track
from workbench.result import Result
from workbench.store import Store
from workbench.terminal import progress_bars, visible

COMMANDS = ["list", "info", "run", "report", "compare", "runs", "delete", "app", "tour", "doctor"]
COMMANDS += ["history", "train-world", "rehearse-world", "evaluate-world", "train-transcoders", "train-sae"]
COMMANDS += ["build-corpus", "index-features"]
HEAVY = ["torch", "transformers", "transformer_lens", "sae_lens", "pandas", "plotly", "streamlit"]

FAILING = """
def {name}(model, prompts: Prompts) -> Result:
    \"\"\"Fail.\"\"\"
    raise {error}
"""


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """A catalogue of toys, a toy model named toy, and a store of its own."""
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WORKBENCH_DEBUG", raising=False)
    monkeypatch.setattr(command_line, "_load", lambda name, *_: Toy(name=name))
    with toy_package(tmp_path, monkeypatch) as catalog:
        header, _, rest = WORD_COUNT.partition("import numpy")
        (catalog.folder / "word_count.py").write_text(header + "import numpy" + rest)
        for name, error in {"breaks": "RuntimeError('shapes differ')", "stops": "KeyboardInterrupt"}.items():
            declared = '@analysis(title="T", family="lens", reference="folklore")'
            source = header + declared + FAILING.format(name=name, error=error)
            (catalog.folder / f"{name}.py").write_text(source)
        yield catalog


def asked(capsys, *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    code = answer(list(words))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("words", [["--help"], ["list"], ["list", "--json"], ["run", "--help"]])
def test_help_and_list_load_no_heavy_module(words):
    code = f"""
import sys
from workbench.__main__ import answer
assert answer({words}) == 0
print([name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr == ""


def test_no_words_open_the_dashboard_in_the_browser(capsys, monkeypatch):
    served = []
    monkeypatch.setattr("workbench.serving.serve_dashboard", lambda *asked: served.append(asked))
    assert asked(capsys) == (0, "", "")
    assert served == [(8501, True)]


def test_the_help_names_every_command(capsys):
    code, out, err = asked(capsys, "--help")
    assert (code, err) == (0, "")
    assert all(name in out for name in COMMANDS)


def test_list_shows_every_analysis(toys, capsys):
    assert "Count the words of each prompt." in asked(capsys, "list")[1]
    listed = json.loads(asked(capsys, "list", "--json")[1])
    assert [one["name"] for one in listed] == ["breaks", "stops", "word_count"]
    assert listed[2]["knobs"][3] == {
        "name": "at",
        "type": "list[Site]",
        "default": ["L3.H2.z"],
        "choices": [],
        "doc": "not looked at.",
    }


def test_run_help_shows_the_knobs_of_the_analysis(toys, capsys):
    code, out, _ = asked(capsys, "run", "word_count", "--help")
    assert code == 0
    for shown in ("--unit", "words or letters", "how often, 1 to 5.", "--prompts", "Idea. Count words."):
        assert shown in out


def test_run_prints_the_finding_saves_the_run_and_reads_it_again(toys, capsys, tmp_path):
    ask = ["run", "word_count", "--model", "toy", "--prompt", "one two", "--prompt", "three", "--repeat", "2"]
    code, out, err = asked(capsys, *ask, "--out", str(tmp_path / "out"))
    assert (code, err) == (0, "")
    assert "6 words" in out
    saved = Result.load(tmp_path / "out")
    assert saved.params["repeat"] == 2
    assert len(Store().runs()) == 1
    again = json.loads(asked(capsys, *ask, "--json")[1])
    assert again["made"]["date"] == saved.made["date"], "the same run is read, not computed"
    assert len(Store().runs()) == 1


def test_json_holds_the_result_and_its_small_arrays(toys, capsys):
    code, out, err = asked(capsys, "run", "word_count", "--model", "toy", "--prompt", "one two", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["analysis"] == "word_count"
    assert found["arrays"]["length"]["values"] == [2]
    assert found["schema_version"] == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["lisst"], "No such command 'lisst'"),
        (["runs", "--jsn"], "No such option: --jsn"),
        (["run"], "Missing argument 'name'"),
        (["run", "--model", "toy", "--top", "3", "word_count"], "name the analysis right after run"),
        (
            ["run", "wordcount", "--model", "toy"],
            "analysis 'wordcount' does not exist: did you mean word_count",
        ),
        (["run", "word_count", "--prompt", "one"], "word_count needs a model"),
        (["run", "word_count", "--model", "toy"], "give --prompt TEXT or --prompts FILE"),
        (["run", "word_count", "--model", "toy", "--prompt", " "], "the prompt is empty"),
        (
            ["run", "word_count", "--model", "toy", "--prompts", "nowhere.jsonl"],
            "'nowhere.jsonl' does not exist",
        ),
        (["run", "word_count", "--model", "toy", "--prompt", "a", "--prompts", "b"], "not with both"),
        (["run", "word_count", "--model", "toy", "--needles", "b"], "no knob 'needles'"),
        (
            ["run", "word_count", "--model", "toy", "--repeats", "2"],
            "no knob 'repeats': did you mean repeat?",
        ),
        (["run", "word_count", "--model", "toy", "--repeat", "two"], "knob repeat takes a whole number"),
        (["run", "word_count", "--model", "toy", "--repeat"], "--repeat needs a value"),
        (["run", "word_count", "--model", "toy", "--unit", "bytes"], "knob unit takes words or letters"),
        (["run", "word_count", "--model", "toy", "--at", "L3.zz"], "site kind 'zz' is unknown"),
        (["run", "word_count", "more", "--model", "toy"], "'more' belongs to no option"),
        (["report", "f00d"], "f00d"),
        (["delete", "f00d"], "f00d"),
        (["app", "--port", "99999"], "'--port'"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(toys, capsys, words, told):
    code, out, err = asked(capsys, *words)
    assert (code, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1
    assert err.startswith("error: ")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("./nowhere", "folder ./nowhere does not exist"),
        ("nowhere.gguf", "GGUF file nowhere.gguf does not exist"),
        ("{tmp_path}", "is no Hugging Face model: it holds no config.json"),
        ("planted:nothing", "planted model 'nothing' is unknown: allowed are copy"),
    ],
)
def test_a_model_that_is_not_there_is_one_sentence(capsys, tmp_path, name, told):
    code, out, err = asked(capsys, "info", name.format(tmp_path=tmp_path))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert told in err


def test_a_device_that_is_not_there_is_one_sentence(capsys):
    code, _, err = asked(capsys, "info", "planted:copy", "--device", "abacus")
    assert (code, err.count("\n")) == (2, 1)
    assert "device 'abacus' is unknown: allowed are auto, cpu" in err


def test_info_tells_sizes_checks_and_sites(capsys):
    code, out, err = asked(capsys, "info", "planted:copy", "--json")
    assert (code, err) == (0, "")
    about = json.loads(out)
    assert about["shape"]["n_layers"] == 2
    assert all(check["passed"] for check in about["checks"])
    assert about["capabilities"]["served"]["z"] == [0, 1]
    shown = asked(capsys, "info", "planted:copy")[1]
    assert "LlamaForCausalLM" in shown
    assert "hooked logits equal plain logits" in shown
    assert "0-1" in shown


def test_a_taken_port_is_one_sentence(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, out, err = asked(capsys, "app", "--port", str(port), "--no-browser")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: port {port} is taken")


def test_debug_shows_the_traceback(toys, capsys):
    code, _, err = asked(capsys, "run", "nothing", "--model", "toy", "--debug")
    assert code == 2
    assert "Traceback" in err
    assert "error: analysis 'nothing' does not exist" in err


def test_a_defect_is_called_one_and_leaves_nothing_behind(toys, capsys):
    code, out, err = asked(capsys, "run", "breaks", "--model", "toy", "--prompt", "one")
    assert (code, out) == (1, "")
    assert err == "internal error: RuntimeError: shapes differ (--debug shows where)\n"
    assert Store().runs() == []


def test_ctrl_c_leaves_the_store_whole(toys, capsys):
    assert asked(capsys, "run", "word_count", "--model", "toy", "--prompt", "one")[0] == 0
    code, out, err = asked(capsys, "run", "stops", "--model", "toy", "--prompt", "one")
    assert (code, out) == (130, "")
    assert err == "stopped: what was finished is saved, nothing is left half-written\n"
    assert len(Store().runs()) == 1


def test_two_runs_are_compared(toys, capsys, tmp_path):
    for text in ("one two", "one two three"):
        asked(capsys, "run", "word_count", "--model", "toy", "--prompt", text)
    newer, older = (run["id"] for run in json.loads(asked(capsys, "runs", "--json")[1]))
    code, out, _ = asked(capsys, "compare", older, newer, "--out", str(tmp_path / "kept"))
    assert code == 0
    assert "largest change is +1" in out
    assert Result.load(tmp_path / "kept").finding in out.replace("\n", " ")
    kept = re.search(r"saved as ([0-9a-f]+)", out)
    assert kept is not None
    assert asked(capsys, "report", kept[1], "--out", str(tmp_path / "report.html"))[0] == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "largest change is +1" in page
    assert "result = compare(first, second)" in page
    assert json.loads(asked(capsys, "compare", older, newer, "--json")[1])["tables"]["changes"]
    assert [run["analysis"] for run in json.loads(asked(capsys, "runs", "--json")[1])].count("comparison") == 1
    assert asked(capsys, "compare", older, "nothing")[0] == 2


def test_runs_are_listed_reported_and_deleted(toys, capsys, tmp_path):
    assert "no run is saved yet" in asked(capsys, "runs")[1]
    asked(capsys, "run", "word_count", "--model", "toy", "--prompt", "one")
    identifier = json.loads(asked(capsys, "runs", "--json")[1])[0]["id"]
    assert identifier in asked(capsys, "runs")[1].replace("\n", "")
    file = tmp_path / "page.html"
    assert asked(capsys, "report", identifier[:8], "--out", str(file))[0] == 0
    assert "Word count" in file.read_text(encoding="utf-8")
    assert asked(capsys, "delete", identifier[:8])[0] == 0
    assert Store().runs() == []


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        ("--repeat 3 --unit=letters", {"repeat": "3", "unit": "letters"}),
        ("--layers -1 --seed 5", {"layers": "-1", "seed": "5"}),
        ("--at L3.z@-1", {"at": "L3.z@-1"}),
        ("--unknown --repeat 3", {"unknown": "", "repeat": "3"}),
        ("--repeat= --repeat 4", {"repeat": "4"}),
    ],
)
def test_knobs_are_read_from_options(toys, words, texts):
    assert read_knobs(toys["word_count"], words.split()) == texts


def test_switches_need_no_value(toys):
    source = (toys.folder / "word_count.py").read_text()
    (toys.folder / "word_count.py").write_text(source.replace("repeat: int = 1", "per_word: bool = True"))
    entry = type(toys)(toys.folder, toys.home)["word_count"]
    assert read_knobs(entry, ["--per-word", "--seed", "1"]) == {"per_word": "true", "seed": "1"}
    assert read_knobs(entry, ["--no-per-word"]) == {"per_word": "false"}
    assert read_knobs(entry, ["--per-word=off"]) == {"per_word": "off"}


@pytest.mark.parametrize("text", ["\x1b[2J", "\x07bell", "a\nb", "\u202eright to left", "\ud800", "\x9b31m"])
def test_no_token_acts_on_the_terminal(text, toys, capsys):
    assert visible(text).isprintable()
    terminal.print_line(text)
    terminal.print_table([text], [[text]])
    shown = capsys.readouterr().out
    assert visible(text)[:4] in shown
    assert not {"\x1b", "\x07", "\u202e", "\ud800", "\x9b"} & set(shown)


def test_markup_in_a_token_is_shown_not_obeyed(capsys):
    terminal.print_line("[bold red]token[/]")
    terminal.print_table(["column"], [["[link=http://x]y[/link]"]])
    shown = capsys.readouterr().out
    assert "[bold red]token[/]" in shown
    assert "[link=http://x]y[/link]" in shown


def test_bars_draw_on_standard_error_only(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(terminal, "_PATIENCE", 0.0)
    with progress_bars():
        for _ in track(range(3), "layers"):
            for _ in track(range(2), "heads"):
                pass
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "layers" in captured.err


def test_no_bar_is_drawn_into_a_pipe(capsys):
    with progress_bars():
        list(track(range(3), "layers"))
    assert capsys.readouterr().err == ""
