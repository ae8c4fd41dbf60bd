"""A mistake in a file of the configuration is refused in one line that names the file."""

import shutil
from pathlib import Path

import pytest

from phi3v.config.composing import check_command_line
from phi3v.errors import UserError


def test_a_misspelt_key_in_a_file_is_refused_with_the_name_of_the_file(
    conf: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "conf"
    shutil.copytree(conf, copy)
    mine = copy / "experiment" / "mine.yaml"
    head = "# @package _global_\n# python train.py experiment=mine\n"
    for text, fault in {
        "optimizer:\n  lrr: 1": "conf/experiment/mine.yaml: unknown key 'optimizer.lrr' (did you",
        "sede: 1": "conf/experiment/mine.yaml: unknown key 'sede' (did you mean 'seed'?)",
        "optimizer:\n  lr: fast": "conf/experiment/mine.yaml: optimizer.lr=fast: expected number",
        "defaults:\n  - override /adapter: lorra": "unknown choice 'lorra' for group 'adapter'",
    }.items():
        mine.write_text(head + text, encoding="utf-8")
        with pytest.raises(UserError) as caught:
            check_command_line(copy, "train", ["experiment=mine"], "train")
        assert fault in str(caught.value)
    (copy / "local" / "default.yaml").write_text("# @package _global_\nseeed: 1")
    with pytest.raises(UserError, match="unknown key 'seeed'"):
        check_command_line(copy, "train", [], "train")
    (copy / "local" / "default.yaml").write_text("seed: 1")
    with pytest.raises(UserError, match="begin with the line '# @package _global_'"):
        check_command_line(copy, "train", [], "train")


FILES = {
    "trainer: [a]": "trainer=['a']: expected a mapping with keys like accelerator, devices,",
    "adapter: {targets: [qkv_proj]}": "adapter.targets=['qkv_proj']: expected a mapping with keys",
    "adapter: {scope: {a: 1}}": "adapter.scope={'a': 1}: expected a list",
    "tags: {a: 1}": "tags={'a': 1}: expected a list",
    "- seed\n- 1": "expected a mapping of keys to values, found a list",
    "trainer: 3": "trainer=3: expected a mapping",
    "batch_size: abc": "batch_size=abc: expected whole number",
    "adapter: {scope: [1]}": "adapter.scope.0=1: expected text",
    "seed: [1\nname: a": " line 4: expected ',' or ']', but got ':'",
    "seed: 1\nseed: 2": " line 4: found duplicate key seed",
    "seed: 1\nname: \udcff": " line 4: not UTF-8; save the file in that encoding",
}


@pytest.mark.parametrize("text", FILES)
def test_a_broken_experiment_is_refused_in_one_line_with_file_and_place(
    conf: Path, tmp_path: Path, text: str
) -> None:
    shutil.copytree(conf, tmp_path / "conf")
    mine = tmp_path / "conf" / "experiment" / "mine.yaml"
    head = "# @package _global_\n# python train.py experiment=mine\n"
    mine.write_text(head + text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(UserError) as caught:
        check_command_line(tmp_path / "conf", "train", ["experiment=mine"], "train")
    assert str(caught.value).startswith("conf/experiment/mine.yaml")
    assert FILES[text] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_defaults_list_that_is_none_is_refused_in_one_line(conf: Path, tmp_path: Path) -> None:
    shutil.copytree(conf, tmp_path / "conf")
    mine = tmp_path / "conf" / "experiment" / "mine.yaml"
    mine.write_text("# @package _global_\ndefaults: 3\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"^Invalid defaults list in 'experiment/mine'.*got int"):
        check_command_line(tmp_path / "conf", "train", ["experiment=mine"], "train")


def test_an_interpolation_that_is_not_closed_is_refused_with_its_key(
    conf: Path, tmp_path: Path
) -> None:
    shutil.copytree(conf, tmp_path / "conf")
    mine = tmp_path / "conf" / "experiment" / "mine.yaml"
    mine.write_text("# @package _global_\nname: ${oops\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"^name: .*oops.*$"):
        check_command_line(tmp_path / "conf", "train", ["experiment=mine"], "train")
