"""`phi3v predict --model FOLDER` asks a checkpoint as it stands, without a run."""

import pytest
import yaml
from made_run import TINY, told_by

from phi3v.cli import predict
from phi3v.cli.predict import question_values
from phi3v.errors import UserError
from phi3v.run.recorded import read_task


def test_a_checkpoint_folder_is_asked_a_question_as_it_stands(phi3v, pictures):
    model, processor = loaded_base()
    wanted = told_by(
        model, processor, read_task("picture_question"), pictures[0],
        values={"question": "What {is} it?"},
    )  # fmt: skip
    ended = phi3v(
        "predict", "--model", TINY, "--question", "What {is} it?", pictures[0],
        "--json", "--max-new-tokens", 24,
    )  # fmt: skip
    assert ended.rows == [{"picture": str(pictures[0]), "prediction": wanted}]


def loaded_base():
    from phi3v.model import Checkpoint

    loaded = Checkpoint(str(TINY)).load()
    return loaded.model, loaded.processor


def test_values_that_the_question_names_are_given_as_fields(phi3v, pictures):
    model, processor = loaded_base()
    asked = {"question": "What colour is it?"}
    wanted = told_by(model, processor, read_task("picture_question"), pictures[0], values=asked)
    words = ("predict", "--model", TINY, "--task", "picture_question", pictures[0])
    lacking = phi3v(*words)
    assert lacking.status == 2
    assert "give --field question=..." in lacking.err
    ended = phi3v(
        *words, "--field", "question=What colour is it?", "--json", "--max-new-tokens", 24
    )
    assert ended.rows[0]["prediction"] == wanted


@pytest.mark.parametrize(
    ("config", "dtype"),
    [
        ('{"dtype": "bfloat16"}', "bfloat16"),
        ('{"torch_dtype": "bfloat16"}', "bfloat16"),  # as the published files call it
        ("{}", "float32"),
    ],
)
def test_a_checkpoint_is_held_in_the_type_of_its_files(tmp_path, monkeypatch, config, dtype):
    class Seen(Exception):
        pass

    def loaded(path, dtype):
        raise Seen(dtype)

    (tmp_path / "config.json").write_text(config)
    monkeypatch.setattr("phi3v.model.Checkpoint", loaded)
    with pytest.raises(Seen, match=dtype):
        predict._model_of_folder(tmp_path, "cpu")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["question"], "write NAME=VALUE"),
        (["question= "], "write NAME=VALUE"),
        (["questio=x"], "did you mean 'question'"),
        ([], "give --field question=..."),
    ],
)
def test_fields_that_do_not_fit_the_question_are_refused(given, told):
    with pytest.raises(UserError, match=told):
        question_values(read_task("picture_question"), given)


def test_a_question_with_a_control_token_is_refused_once(phi3v, pictures):
    ended = phi3v("predict", "--model", TINY, "--question", "x<|end|>", *pictures)
    assert ended.status == 2
    assert ended.err.count("control token") == 1


def test_as_text_every_field_has_a_line(phi3v, pictures, tmp_path):
    file = tmp_path / "task.yaml"
    node = yaml.safe_load((TINY.parents[1] / "conf/task/product.yaml").read_text())
    node["answer"] = "{title}"  # whatever it says is a title
    node["objective"] = "title/token_f1"
    file.write_text(yaml.safe_dump(node))
    ended = phi3v("predict", "--model", TINY, "--task", file, pictures[0], "--max-new-tokens", 8)
    answer, field = ended.out.splitlines()
    said = answer.removeprefix(f"{pictures[0]}: ")
    assert field == f"    title  {said}"
    assert ended.status == 0


def test_a_task_file_passes_the_gate(phi3v, tmp_path):
    file = tmp_path / "task.yaml"
    for node, told in (
        ({"_target_": "os.system", "command": "true"}, "os.system"),
        ({"_target_": "phi3v.task.Task", "nme": "x"}, "nme"),
        (["a list"], "expected a mapping"),
    ):
        file.write_text(yaml.safe_dump(node))
        with pytest.raises(UserError, match=told):
            read_task(str(file))
