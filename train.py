"""Fine-tune Phi-3-Vision: `python train.py experiment=lora_r16`; `--help` says what else."""

import hydra
from omegaconf import DictConfig

from phi3v.config.front_door import enter


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """One run, or under `-m` one job of a sweep; returns the configured objective."""
    from phi3v.run import jobs  # here, because a refused command line has to cost nothing

    return jobs.start(cfg, "phi3v.run:train")


if __name__ == "__main__":
    enter(main, __file__, "train")
