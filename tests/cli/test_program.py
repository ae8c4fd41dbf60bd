"""One program, several commands: what is mistyped is told in a line, and at once."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from started import to_its_end

from phi3v.cli import COMMANDS, export, predict

SOURCE = Path(__file__).parents[2] / "src"


def test_a_mistyped_command_is_told_with_the_nearest_one(phi3v):
    ended = phi3v("predct", "x")
    assert ended == (2, "", "error: there is no command 'predct' (did you mean 'predict'?)\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["predict", "run", "--jsn", "a.png"], "'--jsn' (did you mean '--json'?)"),
        (["predict", "--batchsize=4"], "'--batchsize' (did you mean '--batch-size'?)"),
        (["export", "run", "--merged", "out"], "--merge --adapter is required"),
        (["export", "run", "--merge", "out", "--max-shard", "1GB"], "'--max-shard-size'?)"),
    ],
)
def test_a_mistyped_option_is_told_with_the_nearest_one(phi3v, words, told):
    ended = phi3v(*words)
    assert ended.status == 2
    assert told in ended.err
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["predict", "run", "a.png", "--batch-size", "0"], "'0' is not a whole number"),
        (["predict", "run", "a.png", "--device", "gpu"], "choose from 'cpu', 'cuda'"),
        (["predict", "run", "a.png", "--max-new-tokens"], "expected one argument"),
        (["export", "run", "--merge", "out", "--max-shard-size", "big"], "'big' is not a size"),
        (["export", "run", "--merge", "a", "--adapter", "b"], "not allowed with argument"),
        (["export", "run", "other", "--merge", "a"], "'other' is one word too many"),
    ],
)
def test_a_wrong_value_is_one_line(phi3v, words, told):
    ended = phi3v(*words)
    assert ended.status == 2
    assert told in ended.err
    assert ended.err.count("\n") == 1


def test_help_names_every_command_and_its_options(phi3v):
    listed = phi3v("--help")
    assert listed.status == 0
    assert all(name in listed.out for name in COMMANDS)
    for command in (predict, export):
        made = command.parser()
        options = [name for action in made._actions for name in action.option_strings]
        assert all(option in made.format_help() for option in options)
        assert all(action.help for action in made._actions)


def test_without_a_command_it_says_what_there_is(phi3v):
    ended = phi3v()
    assert ended.status == 2
    assert "predict" in ended.out


def test_options_may_stand_anywhere_among_the_words():
    arguments = predict.parser().read(["run", "--json", "a.png", "--batch-size", "2", "b.png"])
    assert arguments.words == ["run", "a.png", "b.png"]
    assert arguments.batch_size == 2


def test_ctrl_c_ends_it_with_130(phi3v, monkeypatch):
    def pressed(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(predict, "run", pressed)
    ended = phi3v("predict")
    assert ended.status == 130
    assert ended.err == "\ninterrupted\n"


def test_a_signal_to_end_tidies_up_first(phi3v, monkeypatch):
    tidied = []

    def ended_from_outside(arguments):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            tidied.append(True)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(predict, "run", ended_from_outside)
    with pytest.raises(SystemExit) as left:
        phi3v("predict")
    assert (left.value.code, tidied) == (143, [True])
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "RUN", "no-such-folder/*.png"],
        ["predict", "RUN", "a.png", "--field", "x=1"],
        ["predict", "--model", "RUN", "a.png"],
        ["export", "nowhere", "--merge", "out"],
        ["--help"],
    ],
)
def test_arguments_are_checked_before_anything_heavy_is_imported(lora_run, words):
    words = [str(lora_run) if word == "RUN" else word for word in words]
    program = (
        "import sys; from phi3v.cli import main; status = main(sys.argv[1:]);"
        "heavy = {'torch', 'transformers', 'lightning', 'peft', 'numpy'} & sys.modules.keys();"
        "assert not heavy, heavy; sys.exit(status)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, *words],
        env={**os.environ, "PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode == (0 if words == ["--help"] else 2), ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_command_that_a_library_ends_says_in_which_line_that_was():
    program = (
        "import os; from phi3v.cli import main, predict; predict.run = lambda given: os.abort();"
        "main(['predict', 'a.png'])"
    )
    status, _, said = to_its_end("-c", program)
    assert status == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in said
    assert '__init__.py", line ' in said
