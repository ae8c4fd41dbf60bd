"""Configuration: the only room that knows Hydra and OmegaConf; imports nothing heavy.

model = instantiate(cfg.model)                # every `_target_` goes through one gate
save_config(cfg, run_dir)                     # <run>/config.yaml
wandb.config["run"] = public_config(cfg)      # resolved, without secrets
"""

from phi3v.config.gate import instantiate, instantiate_source
from phi3v.config.saving import load_config, public_config, save_config

__all__ = [
    "instantiate",
    "instantiate_source",
    "load_config",
    "public_config",
    "save_config",
]
