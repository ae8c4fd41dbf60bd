"""The model card of what a run exports: README.md with the front matter that the hub reads.

text = model_card(recorded, "my-model", notes=["merged against adapter: ..."])
"""

import json
import shlex
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from phi3v.evaluation.figures import SYSTEMS, metric_title, system_title, write_figure
from phi3v.run.recorded import Recorded

# Hub ids under which Microsoft publishes these models, under the MIT licence.
_PUBLISHED = ("microsoft/Phi-3-vision", "microsoft/Phi-3.5-vision")
_VERSIONS = ("phi3v", "torch", "transformers", "peft", "lightning", "tokenizers", "safetensors")


def model_card(recorded: Recorded, name: str, notes: Sequence[str], dtype: str = "float32") -> str:
    """The card of a whole model.

    Args:
        recorded: The run.
        name: What the model is called: its folder.
        notes: What was measured while it was written, one line each.
        dtype: Of its weights.
    """
    kept = f', dtype="{dtype}"' if dtype != "float32" else ""
    load = (
        "```python\nfrom phi3v.model import Checkpoint\n\n"
        f'loaded = Checkpoint("{name}"{kept}).load()  # loaded.model, loaded.processor\n```\n\n'
        f"or `phi3v predict --model {name} {_asked(recorded)} photo.jpg`.\n\n"
        "Other programs may want the published code beside it: vLLM, in the copies that were read "
        "(2026-11; not tried), asks the published processor for its image tokens, so it needs the "
        "base's `*.py` files here and the `auto_map` entries of its JSON files."
    )
    return _card(recorded, name, notes, load, adapter=False)


def adapter_card(recorded: Recorded, name: str, notes: Sequence[str]) -> str:
    """The card of an adapter; the arguments as for `model_card`."""
    load = (
        "A PEFT folder of plain LoRA on the decoder:\n\n"
        "```python\nfrom peft import PeftModel\n\nfrom phi3v.model import Checkpoint\n\n"
        f"loaded = Checkpoint({_arguments(recorded)}).load()\n"
        f'model = PeftModel.from_pretrained(loaded.model, "{name}")\n```\n\n'
        "No engine is known to serve adapters over Phi-3-Vision: in the copies of vLLM that were "
        "read (2026-11) this model takes none. `phi3v export --merge` makes a whole model."
    )
    return _card(recorded, name, notes, load, adapter=True)


def _card(recorded: Recorded, name: str, notes: Sequence[str], load: str, *, adapter: bool) -> str:
    sections = [
        f"---\n{_front_matter(recorded, adapter=adapter)}---",
        f"# {name}",
        f"Phi-3-Vision, fine-tuned on the task `{recorded.task.name}`.",
        f"## Task\n\n{_task(recorded)}",
        f"## Training\n\n{_listed(_training(recorded))}",
        f"## Test\n\n{_test(recorded)}",
        f"## Loading\n\n{load}",
        f"## Export\n\n{_listed(notes)}",
        f"## Versions\n\n{_listed(_versions(recorded))}",
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(recorded: Recorded, *, adapter: bool) -> str:
    base = _base(recorded)
    published = base.startswith(_PUBLISHED)
    facts: dict[str, Any] = {"license": "mit"} if published else {}
    facts["library_name"] = "peft" if adapter else "transformers"
    if published:  # the hub refuses what is no repository of its own
        facts["base_model"] = base
        facts["base_model_relation"] = "adapter" if adapter else "finetune"
    facts["pipeline_tag"] = "image-text-to-text"
    facts["tags"] = ["phi3_v", "phi3v", *(["lora"] if _is_lora(recorded) else [])]
    return yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)


def _base(recorded: Recorded) -> str:
    """The base's hub id; of a folder only its name, since elsewhere its place means nothing."""
    path = str(recorded.config["model"].get("path", "a model from scratch"))
    return Path(path).name if Path(path).exists() else path


def _arguments(recorded: Recorded) -> str:
    """What loads the base from where adapter_config.json says that it is, as it was trained on."""
    model = recorded.config["model"]
    place = json.dumps(str(model.get("path", "a model from scratch")), ensure_ascii=False)
    dtype = str(model.get("dtype", "float32"))
    revision = model.get("revision")
    given = [f'revision="{revision}"'] if revision else []
    given += [f'dtype="{dtype}"'] if dtype != "float32" else []
    given += [f'quantization="{kind}"'] if (kind := model.get("quantization")) else []
    return ", ".join([place, *given])


def _is_lora(recorded: Recorded) -> bool:
    return str(recorded.config["adapter"]["_target_"]).endswith("LoraAdapter")


def _asked(recorded: Recorded) -> str:
    """What `phi3v predict` is told to ask; a question with values in it is asked as a task."""
    task = recorded.task
    if not task.question_names:
        return f"--question {shlex.quote(task.question)}"
    return " ".join([f"--task {task.name}", *(f"--field {n}=..." for n in task.question_names)])


def _task(recorded: Recorded) -> str:
    task = recorded.task
    fields = [f"`{name}`: {field.kind}" for name, field in task.fields.items()]
    return f"```\nquestion: {task.question}\nanswer:   {task.answer}\n```\n\n{_listed(fields)}"


def _training(recorded: Recorded) -> list[str]:
    config = recorded.config
    revision = config["model"].get("revision")
    at = f" at revision `{revision}`" if revision else ""
    facts = [f"base: `{_base(recorded)}`{at}"]
    if merged := config["model"].get("merge"):
        facts.append(f"merged into the base before: {', '.join(map(_run_name, merged))}")
    if kind := config["model"].get("quantization"):
        facts.append(f"the base's decoder rounded to {kind}")
    facts.append(f"adapter: {_adapter(config['adapter'])}")
    optimizer = config.get("optimizer") or {}
    if "lr" in optimizer:
        facts.append(f"optimizer: {_optimizer(optimizer, config['adapter'])}")
    trainer = config["trainer"]
    steps, epochs = trainer.get("max_steps") or -1, trainer.get("max_epochs")
    length = f"{steps} steps" if steps > 0 else f"{epochs} epoch{'' if epochs == 1 else 's'}"
    facts.append(f"{length}, {config['batch_size']} examples a step, seed {config['seed']}")
    return facts


def _optimizer(optimizer: dict[str, Any], adapter: dict[str, Any]) -> str:
    """Its name and rates: of the parts that train, those which are not everyone's."""
    details = [str(optimizer["_target_"]).rpartition(".")[2], f"learning rate {optimizer['lr']:g}"]
    for part in (*adapter.get("scope", []), *(adapter.get("whole") or [])):
        rate = (optimizer.get("parts") or {}).get(part, {}).get("lr", optimizer["lr"])
        details += [f"{rate:g} for the {part}"] if rate != optimizer["lr"] else []
    if (ratio := optimizer.get("lora_plus_ratio", 1)) != 1:
        details.append(f"LoRA+ with a ratio of {ratio:g}")
    return ", ".join(details)


def _run_name(path: str) -> str:
    """A run, or an adapter's folder, by what it is called where it lies."""
    return f"`{'/'.join(Path(path).parts[-2:])}`"


def _adapter(adapter: dict[str, Any]) -> str:
    scope = ", ".join(adapter.get("scope", []))
    if not str(adapter["_target_"]).endswith("LoraAdapter"):
        return f"none, all weights of {scope}"
    kind = "DoRA" if adapter.get("use_dora") else "LoRA"
    details = [f"rank {adapter['r']}", f"alpha {adapter['alpha']}", f"on {scope}"]
    details += ["rank-stabilised"] if adapter.get("use_rslora") else []
    start = adapter.get("init", "default")
    details += [f"started by {start}"] if start != "default" else []
    details += ["biases of adapted modules"] if adapter.get("bias", "none") != "none" else []
    details += [f"all weights of {part} beside it" for part in adapter.get("whole") or []]
    earlier = adapter.get("init_from")
    details += [f"begun with the adapter of {_run_name(earlier)}"] if earlier else []
    return f"{kind}, {', '.join(details)}"


def _test(recorded: Recorded) -> str:
    """Systems across, metrics down, and what the run says about looking at pictures."""
    if not recorded.directory.metrics.is_file():
        return "The run was not scored."
    summary = recorded.directory.read_metrics()
    systems = [name for name in SYSTEMS if name in summary["systems"]]
    heads = ["", *(system_title(name, summary) for name in systems)]
    rows = [heads, [":--", *("--:" for _ in systems)]]
    for metric in recorded.task.metric_names:
        field = metric.rpartition("/")[0]
        title = f"{field} {metric_title(metric)}".strip()
        figures = [write_figure(metric, summary["systems"][name].get(metric)) for name in systems]
        rows.append([title, *figures])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    count = summary["rows"].get(summary["split"])
    text = f"Answers to {count} examples of the {summary['split']} split, which were not trained on"
    return f"{text}:\n\n{table}\n\n{' '.join(summary['verdict'])}"


def _versions(recorded: Recorded) -> list[str]:
    trained = recorded.directory.read_environment().get("packages") or {}
    then = ", ".join(f"{name} {trained[name]}" for name in _VERSIONS if trained.get(name))
    now = ", ".join(f"{name} {version(name)}" for name in _VERSIONS)
    return [*([f"trained with {then}"] if then else []), f"exported with {now}"]


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
