"""The page that `python train.py --help` prints: what there is to choose, read from conf/."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

_USES = {
    "train": """\
Fine-tune Phi-3-Vision on pictures and texts.

  python train.py experiment=lora_r16
  python train.py experiment=lora_r16 data=csv data.path=products.csv model=phi3_vision trainer=gpu
  python train.py -m experiment=lora_r8,lora_r16 seed=1,2,3     --dry-run only lists them
  python train.py run=runs/lora_r16/DIRECTORY        go on with an interrupted run""",
    "eval": """\
Score a fine-tuned run or a bare base on a split that training never saw.

  python eval.py run=runs/lora_r16/DIRECTORY
  python eval.py run=runs/lora_r16/DIRECTORY data=csv data.path=others.csv
  python eval.py model=tiny""",
}
_COMMON = {
    "train": """\
  seed=1                      another initialisation and order; the same splits
  batch_size=64               examples per step of the optimizer, over all devices
  data.batch_size=4           examples at once on one device: memory, never the result
  optimizer.lr=1e-4           learning rate
  adapter.r=32                rank of LoRA
  adapter.scope=[decoder,projector]
  trainer.max_epochs=5        length of training
  name=mine                   where it lies: runs/mine/...""",
    "eval": """\
  split=val                   another split
  data.eval_batch_size=16     examples at once when answers are generated
  max_new_tokens=200          longest answer""",
}


def help_page(conf: Path, program: str) -> str:
    """The whole page.

    Args:
        conf: The folder of the configuration files.
        program: "train" or "eval".
    """
    chosen = _defaults(conf / f"{program}.yaml")
    groups = [_group(conf / name, chosen[name]) for name in chosen if (conf / name).is_dir()]
    return "\n\n".join(
        [
            _USES[program],
            "Choose with group=choice (* is what you get otherwise):",
            *[group for group in groups if group],
            "Change single values with key=value, for example:\n" + _COMMON[program],
            f"  --cfg job        print the whole configuration with all its keys\n"
            f"  -m, --multirun   run every combination of comma-separated values\n"
            f"  --hydra-help     Hydra's own flags\n\n"
            f"Every file of {conf.name}/ explains its keys.",
        ]
    )


def _defaults(primary: Path) -> dict[str, str | None]:
    """The groups of a defaults list in its order, and what each is by default."""
    config = OmegaConf.load(primary)
    assert isinstance(config, DictConfig)
    entries = [entry for entry in config.defaults if isinstance(entry, DictConfig)]
    return {str(key).split()[-1]: value for entry in entries for key, value in entry.items()}


def _group(folder: Path, default: str | None) -> str:
    files = sorted(folder.glob("*.yaml"))
    lines = [
        f"  {'*' if file.stem == default else ' '} {file.stem:<21} {_first_words(file)}"
        for file in files
    ]
    return "\n".join([folder.name, *lines]) if lines else ""


def _first_words(file: Path) -> str:
    """The first comment that is neither a package line nor the command that runs the file."""
    for line in file.read_text(encoding="utf-8").splitlines():
        words = line.lstrip("# ")
        if line.startswith("#") and not words.startswith(("@package", "python ")):
            return words
    return ""
