"""Score a run or a bare base: `python eval.py run=DIRECTORY`; `--help` says what else."""

import hydra
from omegaconf import DictConfig

from phi3v.config.front_door import enter


@hydra.main(version_base="1.3", config_path="conf", config_name="eval")
def main(cfg: DictConfig) -> float | None:
    """One evaluation, or under `-m` one of several; returns the configured objective."""
    from phi3v.run import jobs  # here, because a refused command line has to cost nothing

    return jobs.start(cfg, "phi3v.run:evaluate")


if __name__ == "__main__":
    enter(main, __file__, "eval")
