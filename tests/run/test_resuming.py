"""What stays with a run that went on."""

from types import SimpleNamespace

import pytest
import yaml
from omegaconf import OmegaConf

from phi3v.config import save_config
from phi3v.run.directory import RunDirectory
from phi3v.run.resuming import RecordSettings


@pytest.mark.parametrize("when", ["on_train_start", "on_fit_end"])
def test_what_a_run_went_on_with_is_in_its_configuration(tmp_path, when) -> None:
    save_config(OmegaConf.create({"max_new_tokens": 8}), tmp_path)
    record = RecordSettings(OmegaConf.create({"max_new_tokens": 96}), RunDirectory(tmp_path))
    told = getattr(record, when)
    for first, longest in ((False, 8), (True, 96)):
        told(SimpleNamespace(is_global_zero=first), None)
        assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == {"max_new_tokens": longest}
