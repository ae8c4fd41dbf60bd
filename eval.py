"""Score a run or a bare base: `python eval.py run=DIRECTORY`; `--help` says what else."""

import hydra
from omegaconf import DictConfig

from phi3v.config.front_door import enter
from phi3v.run import jobs


@hydra.main(version_base="1.3", config_path="conf", config_name="eval")
def main(cfg: DictConfig) -> float | None:
    """One evaluation, or under `-m` one of several; returns the configured objective."""
    return jobs.start("evaluate", cfg)


if __name__ == "__main__":
    enter(main, __file__, "eval")
