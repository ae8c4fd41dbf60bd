"""`phi3v predict --together N` asks about several pictures in one prompt."""

import json
import shutil

from made_run import loaded_run, told_by

from phi3v.run.recorded import read_run


def test_a_run_of_several_pictures_an_example_says_that_each_is_asked_alone(
    phi3v, lora_run, pictures, tmp_path
):
    run = tmp_path / "run"
    shutil.copytree(lora_run, run)
    words = ("predict", run, *pictures[:2], "--max-new-tokens", 2, "--json")
    rows = [json.dumps({"picture": names}) for names in ([], ["a.png"])]
    (run / "predictions.jsonl").write_text("\n".join([*rows, '{"picture": ["a.png",']))
    alone = phi3v(*words)
    assert alone.err == ""
    (run / "predictions.jsonl").write_text("\n".join([*rows, '{"picture": ["a.png", "b.png"]}']))
    ended = phi3v(*words)
    assert ended.err == (
        "warning: this run was trained on examples of several pictures; here each picture is asked"
        " about alone (--together N puts N into one prompt)\n"
    )
    assert ended.rows == alone.rows
    assert phi3v(*words, "--together", 2).err == ""


def test_a_run_of_one_picture_an_example_says_that_several_are_in_a_prompt(
    phi3v, lora_run, pictures, tmp_path
):
    run = tmp_path / "run"
    shutil.copytree(lora_run, run)
    words = ("predict", run, *pictures[:2], "--max-new-tokens", 2, "--json", "--together", 2)
    (run / "predictions.jsonl").write_text(json.dumps({"picture": ["a.png"]}) + "\n")
    ended = phi3v(*words)
    assert ended.err == (
        "warning: this run was trained on examples of one picture; here 2 are in each prompt"
        " (without --together each is asked about alone)\n"
    )
    assert phi3v(*words[:-2]).err == ""
    (run / "predictions.jsonl").write_text(json.dumps({"picture": ["a.png", "b.png"]}) + "\n")
    assert phi3v(*words).err == ""
    assert phi3v(*words).rows == ended.rows


def test_pictures_together_are_asked_about_in_one_prompt_in_their_order(phi3v, lora_run, pictures):
    model, processor = loaded_run(lora_run)
    task = read_run(lora_run).task
    a, b, c = pictures
    ended = phi3v(
        "predict", lora_run, a, c, c, a, a, b,
        "--together", 2, "--batch-size", 2, "--json", "--max-new-tokens", 24,
    )  # fmt: skip
    assert (ended.status, ended.err) == (0, "")
    prompts = [(a, c), (c, a), (a, b)]  # a picture may be in several of them
    assert [row["picture"] for row in ended.rows] == [list(map(str, both)) for both in prompts]
    wanted = [told_by(model, processor, task, *both) for both in prompts]
    assert [row["prediction"] for row in ended.rows] == wanted
    alone = told_by(model, processor, task, a)
    assert wanted[0] not in (wanted[1], alone)  # or neither order nor number would matter
    ended = phi3v("predict", lora_run, c, a, "--together", 2, "--max-new-tokens", 24)
    assert ended.out.startswith(f"{c}, {a}: {wanted[1]}\n")


def test_without_one_prompt_that_can_be_read_no_model_is_loaded(
    phi3v, lora_run, pictures, monkeypatch
):
    def loaded(*words, **settings):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("phi3v.run.trained.load_trained", loaded)
    ended = phi3v("predict", lora_run, pictures[0], "gone.png", "--together", 2)
    assert (ended.status, ended.out) == (1, "")


def test_a_prompt_with_a_broken_picture_says_which_and_the_others_are_answered(
    phi3v, lora_run, pictures
):
    words = (pictures[0], "gone.png", *pictures[1:], "--together", 2, "--max-new-tokens", 4)
    ended = phi3v("predict", lora_run, *words, "--json")
    first, second = ended.rows
    assert first == {
        "picture": [str(pictures[0]), "gone.png"],
        "error": "picture not found: gone.png",
    }
    assert "prediction" in second
    assert (ended.status, ended.err) == (1, "1 of 2 prompts could not be used\n")
    ended = phi3v("predict", lora_run, *words)
    assert ended.err.startswith(f"error: {pictures[0]}, gone.png: picture not found: gone.png\n")
