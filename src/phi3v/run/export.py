"""A run as others load it: a model folder of the published layout, or an adapter that is served.

    export_merged(read_run(run), Path("my-model"), dtype=None, shard_size="5GB", ...)
    export_adapter(read_run(run), Path("my-adapter"), say=print)

What is written has been loaded again and compared with the run's own model before it gets its name.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from phi3v.adapter import PeftConfig, load_adapter
from phi3v.adapter.lora import wrap
from phi3v.adapter.merging import as_plain_lora, merge, takes_from_base
from phi3v.adapter.reading import adapter_tensors, read_adapter, read_adapter_config
from phi3v.adapter.serving import reasons_against, write_servable
from phi3v.errors import UserError
from phi3v.machine import free_memory
from phi3v.model import Checkpoint, Phi3VForCausalLM, Phi3VProcessor
from phi3v.model.loading import quiet, torch_dtype
from phi3v.model.quantization import dequantised
from phi3v.run.card import adapter_card, model_card
from phi3v.run.numerics import repeatable
from phi3v.run.placing import check_free, check_room, placed
from phi3v.run.probing import Distance, Probe, distance
from phi3v.run.recorded import Recorded
from phi3v.run.trained import base_of_run, load_trained

Say = Callable[[str], None]
# An adapter whose parts nearly cancel loses digits in float32 by itself; whether a difference is
# that or a mistake shows where there are twice as many digits.
_PRECISIONS = (torch.float32, torch.float64)
# What else it takes to compute with weights, as a share of them.
_BESIDES = 1.05
# Flash attention computes in neither.
_SETTINGS = {"attn_implementation": "sdpa"}


def export_merged(
    recorded: Recorded,
    out: Path,
    *,
    dtype: str | None,
    shard_size: str,
    device: torch.device,
    say: Say,
) -> None:
    """Write a run as a model folder that needs no adapter.

    The adapter is merged in float32, on the base as the run held it.

    Args:
        recorded: The run.
        out: The folder, which must not exist or be empty.
        dtype: Of the weights that are written; None for the type in which the run held its base.
        shard_size: Largest file of weights, such as "5GB".
        device: Where the models are compared.
        say: Told what was measured.

    Raises:
        UserError: When the run cannot be loaded, the place is taken, or what was written is not
            the run's model. Nothing is left at `out` then.
    """
    check_free(out)
    written = dtype or str(recorded.config["model"].get("dtype", Checkpoint.dtype))
    size = torch_dtype(written).itemsize
    probe = Probe.of(recorded)
    model_card(recorded, out.name, [], written)  # what it cannot read is told before minutes pass

    def check(model: nn.Module) -> None:
        check_room(out, size * _count(model))

    merged, processor, notes = _without_adapter(recorded, probe, device, say, check)
    wanted = probe.logits(merged, processor)
    with placed(out) as draft:
        _write(merged, processor, draft, written, shard_size)
        del merged  # two models in float32 at a time would be one too many
        again = Checkpoint(str(draft), attn_implementation="sdpa").load()
        found = probe.logits(_as(again.model, torch.float32, device), again.processor)
        notes.append(_as_written(distance(wanted, found), written, out))
        say(notes[-1])
        card = model_card(recorded, out.name, notes, written)
        (draft / "README.md").write_text(card, encoding="utf-8")


def _without_adapter(
    recorded: Recorded,
    probe: Probe,
    device: torch.device,
    say: Say,
    check: Callable[[nn.Module], None],
) -> tuple[Phi3VForCausalLM, Phi3VProcessor, list[str]]:
    """The run's model without an adapter in float32, and what was measured.

    What has been loaded is shown to `check` before anything is computed.
    """
    if recorded.trained_whole:
        trained = load_trained(recorded, _SETTINGS)
        check(trained.model)
        say("the run trained whole weights: there is no adapter to merge")
        merged = merge(_as(trained.model, torch.float32, device))
        return merged, trained.loaded.processor, []
    notes = []
    if kind := recorded.config["model"].get("quantization"):
        notes.append(f"the base is as it was trained on: rounded to {kind}")
        say(notes[-1])
    for precision in _PRECISIONS:
        merged, processor, gap = _merged_in(precision, recorded, probe, device, check)
        notes.append(f"merged against adapter, {_name(precision)}: {_told(gap)}")
        say(notes[-1])
        if gap.is_close:
            _as(merged, torch.float32)
            return merged, processor, notes
        del merged  # before the next one is loaded
    raise UserError(
        f"merging changes logits by up to {gap.largest:.2g}, and rounding cannot be why; nothing "
        "was written"
    )


def _merged_in(
    precision: torch.dtype,
    recorded: Recorded,
    probe: Probe,
    device: torch.device,
    check: Callable[[nn.Module], None],
) -> tuple[Phi3VForCausalLM, Phi3VProcessor, Distance]:
    """The run's model without its adapter, and how far merging moved the logits."""
    trained = load_trained(recorded, _SETTINGS, whole=True)
    check(trained.model)
    model, processor = _as(trained.model, precision, device), trained.loaded.processor
    before = probe.logits(model, processor)
    merged = merge(model)
    return merged, processor, distance(before, probe.logits(merged, processor))


def _as(model: nn.Module, dtype: torch.dtype, device: torch.device | None = None) -> nn.Module:
    if device is None or device.type == "cpu":
        _check_memory(model, dtype)
    # transformers types its own `to` for its own classes; ours has it by inheritance.
    return model.to(device=device, dtype=dtype)


def _check_memory(model: nn.Module, dtype: torch.dtype) -> None:
    """Refuse to hold a model in more digits than fit: the system would end the program wordlessly.

    Raises:
        UserError: When less memory is free.
    """
    weights = [weight for weight in model.parameters() if weight.dtype.itemsize < dtype.itemsize]
    needed = sum(weight.numel() for weight in weights) * dtype.itemsize * _BESIDES
    if (free := free_memory()) is not None and free < needed:
        raise UserError(
            f"the models are compared in {_name(dtype)}, which takes about {needed / 1e9:.1f} GB of"
            f" memory, and {free / 1e9:.1f} GB are free; --device cuda compares on the GPU"
        )


def _count(model: nn.Module) -> int:
    """The numbers in a model's weights, without those of an adapter."""
    named = model.named_parameters()
    return sum(weight.numel() for name, weight in named if ".lora_" not in name)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _write(
    model: Phi3VForCausalLM, processor: Phi3VProcessor, folder: Path, dtype: str, shard_size: str
) -> None:
    _as(model, torch_dtype(dtype))
    model.config.clip.dtype = dtype
    for key in ("is_local", "local_files_only"):  # of how it was loaded here
        processor.tokenizer.init_kwargs.pop(key, None)
    with quiet():
        model.save_pretrained(folder, max_shard_size=shard_size)
        processor.save_pretrained(folder)
        # Under the name that the published folder has, for programs that know no other.
        processor.image_processor.save_pretrained(folder)


def _as_written(gap: Distance, dtype: str, out: Path) -> str:
    """What the files changed; in float32 that has to be nothing."""
    if dtype == "float32" and not gap.is_close:
        raise UserError(f"{out}: the files give other logits, by up to {gap.largest:.2g}")
    if gap.largest == float("inf"):
        raise UserError(f"{out}: logits are no numbers in {dtype}; give --dtype bfloat16")
    kind = "files against merged" if dtype == "float32" else f"rounding to {dtype}"
    return f"{kind}: {_told(gap)}"


def _told(gap: Distance) -> str:
    if not gap.largest:
        return f"the same logits at all {gap.positions} positions"
    same = "at all" if not gap.other_tokens else f"at {gap.positions - gap.other_tokens} of the"
    return (
        f"logits differ by at most {gap.largest:.1e} (the largest is {gap.scale:.1f}); "
        f"the same next token {same} {gap.positions} positions"
    )


def export_adapter(recorded: Recorded, out: Path, *, device: torch.device, say: Say) -> None:
    """Write a run's adapter for engines that serve adapters over one base.

    Args:
        recorded: The run.
        out: The folder, which must not exist or be empty.
        device: Where the models are compared.
        say: Told what was written and measured.

    Raises:
        UserError: When such engines do not take this adapter, the place is taken, or what was
            written is not the run's adapter. Nothing is left at `out` then.
    """
    check_free(out)
    instead = f"write the whole model: phi3v export {recorded.directory.path} --merge {out}"
    if recorded.trained_whole:
        raise UserError(f"the run trained whole weights and has no adapter; {instead}")
    folder = recorded.directory.adapter
    if recorded.config["model"].get("merge"):
        raise UserError(
            f"{folder}: it stands on a base with other adapters merged in, and engines would put it"
            f" on the bare one; {instead}"
        )
    if reasons := reasons_against(folder):
        raise UserError(f"{folder}: {'; '.join(reasons)}; {instead}")
    adapter_card(recorded, out.name, [])  # what it cannot read is told before minutes pass
    config = read_adapter_config(folder)
    base = recorded.config["model"].get("path", config.get("base_model_name_or_path"))
    tensors: Mapping[str, Tensor] = read_adapter(folder)[1]
    rest_of_base = takes_from_base(config)
    if rest_of_base:
        tensors, config = as_plain_lora(*_with_start(recorded), config)
    with placed(out) as draft:
        write_servable(draft, tensors, {**config, "base_model_name_or_path": base})
        notes = [f"plain LoRA of rank {config['r']} on {len(tensors) // 2} modules of the decoder"]
        if kind := recorded.config["model"].get("quantization"):
            notes.append(f"trained on a base rounded to {kind}: serve it over one, or {instead}")
        for note in notes:
            say(note)
        measured = _compared(recorded, draft, device, say)
        if not measured and rest_of_base:
            raise UserError(
                "as plain LoRA on the base as it was, this is another model: the base was rounded "
                f"after the adapter took its start out of it; {instead}"
            )
        if not measured:
            raise UserError(f"{folder}: written anew it gives other logits; nothing was written")
        (draft / "README.md").write_text(
            adapter_card(recorded, out.name, [*notes, *measured]), encoding="utf-8"
        )


def _compared(recorded: Recorded, draft: Path, device: torch.device, say: Say) -> list[str]:
    """Put what was written on the run's base, and hold its logits to those of the run.

    Returns:
        What was measured; nothing where that is not the same model.
    """
    probe = Probe.of(recorded)
    notes = []
    for precision in _PRECISIONS:
        own = load_trained(recorded, _SETTINGS, whole=True)
        wanted = probe.logits(_as(own.model, precision, device), own.loaded.processor)
        del own  # before the next one is loaded
        loaded = dequantised(base_of_run(recorded, _SETTINGS))
        model = load_adapter(loaded.model, draft)
        gap = distance(wanted, probe.logits(_as(model, precision, device), loaded.processor))
        del model
        notes.append(f"written against the run's adapter, {_name(precision)}: {_told(gap)}")
        say(notes[-1])
        if gap.is_close:
            return notes
    return []


def _with_start(recorded: Recorded) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """An adapter's tensors after and before training."""
    folder = recorded.directory.adapter
    repeatable(recorded.config["seed"])
    loaded = base_of_run(recorded, _SETTINGS)
    model = wrap(loaded.model, PeftConfig.from_pretrained(str(folder)))
    start = {name: tensor.clone() for name, tensor in adapter_tensors(model).items()}
    load_adapter(model, folder)
    return dict(adapter_tensors(model)), start
