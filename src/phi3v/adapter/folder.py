"""An adapter as a folder that other programs read: PEFT's layout, or a whole model's.

    save_adapter(model, "run/adapter")
    model = load_adapter(base, "run/adapter")

A LoRA becomes `adapter_config.json` and `adapter_model.safetensors` with the key names that the
same LoRA on the published code would have, so PeftModel.from_pretrained(base, folder) takes it. A
model that was trained whole becomes a model folder of the published layout (config and
safetensors; the processor's files are the caller's to add).
"""

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from peft import LoraConfig, NoMatchingPeftModuleError, PeftConfig, PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from phi3v.adapter.beside import whole_weights
from phi3v.adapter.lora import quiet_wrapping, wrap
from phi3v.adapter.made_on import as_metadata
from phi3v.adapter.order import check_weights
from phi3v.adapter.reading import (
    CONFIG,
    WEIGHTS,
    adapter_tensors,
    fill,
    leaves_base_alone,
    one_line,
    read_adapter,
)
from phi3v.adapter.rounding import type_of_base, without_loss
from phi3v.adapter.scope import linear_short_names
from phi3v.adapter.state import check_same_tensors
from phi3v.errors import UserError
from phi3v.files import as_open_as_folder
from phi3v.model import Phi3VForCausalLM
from phi3v.model.divided import whole
from phi3v.model.loading import quiet

MODEL_WEIGHTS = "model.safetensors"


def save_adapter(model: nn.Module, folder: str | Path, writes: bool = True) -> None:
    """Write what was trained: a PEFT folder for a LoRA, a model folder otherwise.

    A LoRA's tensors are written in the base's type where that loses nothing: see `round_to_base`.
    One that took its start out of the base says which that was: see `phi3v.adapter.made_on`.

    Args:
        model: What was trained. Where it is divided over processes, all of them have to call this.
        folder: Where it is written.
        writes: False for a process that only helps to put a divided model together.
    """
    folder = Path(folder)
    own: Mapping[str, Tensor] = (
        {**adapter_tensors(model), **whole_weights(model)}
        if isinstance(model, PeftModel)
        else model.state_dict()
    )
    state = {key: tensor for key, tensor in _whole_tensors(own) if writes}
    if not writes:
        return
    folder.mkdir(parents=True, exist_ok=True)
    if not isinstance(model, PeftModel):
        with quiet():
            as_phi3v(model).save_pretrained(folder, state_dict=state, max_shard_size="5GB")
        as_open_as_folder(folder)
        return
    dtype = type_of_base(model)
    tensors = {
        key: without_loss(tensor.detach().contiguous(), dtype) for key, tensor in state.items()
    }
    save_file(tensors, folder / WEIGHTS, metadata=as_metadata(model))
    _sort_metadata(folder / WEIGHTS)
    config = copy.deepcopy(model.peft_config["default"])
    config.inference_mode = True
    config.save_pretrained(str(folder))
    _sort_lists(folder / CONFIG)
    as_open_as_folder(folder)


def load_adapter(
    model: nn.Module, folder: str | Path, key: str = "", before: Sequence[str] = ()
) -> nn.Module:
    """Put a saved adapter onto a model and return the model that carries it.

    Args:
        model: A bare base, which then gets the adapter that the folder describes (frozen), or a
            model with an adapter of the same settings already attached, which gets its weights.
        folder: What `save_adapter` or PEFT wrote.
        key: What the folder was given for, for the error.
        before: What has been merged into the base already, for the error.

    Raises:
        UserError: When the folder holds no adapter, or one that does not fit this model, or takes
            its start out of the weights and these are others.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        _load_whole(model, folder)
        return model
    config, weights = read_adapter(folder)
    check_weights(folder, config, model, key, before)
    if isinstance(model, PeftModel):
        _check_same_settings(model.peft_config["default"], config, folder)
    else:
        base = as_phi3v(model)
        with _refusals(base, config, folder):
            model = wrap(base, config)
        model.requires_grad_(False)  # PEFT lets biases train
    fill(model, weights, f"the weights in {folder}")
    return model


def add_adapter(model: PeftModel, folder: str | Path, name: str) -> None:
    """Put one more saved adapter on a model and switch it on in the place of the others.

    Args:
        model: With adapters that leave the base alone.
        folder: Of an adapter that does so too.
        name: What it is called on the model; `model.set_adapter(name)` switches it on again.

    Raises:
        UserError: When the folder's adapter does not fit, or would change the base of the others.
    """
    folder = Path(folder)
    config, weights = read_adapter(folder)
    if not leaves_base_alone(config):
        raise UserError(f"{folder}: this adapter changes the base, and others stand on it")
    with _refusals(as_phi3v(model.get_base_model()), config, folder), quiet_wrapping():
        model.add_adapter(name, config)
    fill(model, weights, f"the weights in {folder}", name)
    model.set_adapter(name, inference_mode=True)


@contextmanager
def _refusals(base: Phi3VForCausalLM, config: LoraConfig, folder: Path) -> Iterator[None]:
    """Tell in one line why PEFT does not put an adapter on this model."""
    targets = config.target_modules
    named = sorted(targets) if isinstance(targets, set) else targets
    try:
        yield
    except NoMatchingPeftModuleError as error:
        names = ", ".join(linear_short_names(base))
        raise UserError(
            f"{folder}: its target_modules={named} match nothing in this model; it has: {names}"
        ) from error
    except (ValueError, re.error) as error:
        raise UserError(
            f"{folder}: an adapter with init_lora_weights={config.init_lora_weights!r} and "
            f"target_modules={named!r} cannot be put on this model ({one_line(error)})"
        ) from error


def _whole_tensors(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Each tensor as it is, or put together one at a time and brought to the CPU's memory."""
    for key, tensor in state.items():
        together = whole(tensor)
        yield key, tensor if together is tensor else together.cpu()


def _check_same_settings(here: PeftConfig, there: PeftConfig, folder: Path) -> None:
    for key in ("r", "lora_alpha", "use_rslora", "use_dora", "bias", "modules_to_save"):
        if getattr(here, key) != getattr(there, key):
            raise UserError(
                f"{folder}: its {key} is {getattr(there, key)}, the attached adapter's "
                f"{getattr(here, key)}; attach an adapter with the folder's settings"
            )


def _load_whole(model: nn.Module, folder: Path) -> None:
    shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        raise UserError(f"{folder}: neither {CONFIG} nor {MODEL_WEIGHTS} is there")
    state = {key: tensor for shard in shards for key, tensor in load_file(shard).items()}
    model = as_phi3v(model)
    check_same_tensors(model.state_dict(), state, f"the weights in {folder}")
    model.load_state_dict(state)


def as_phi3v(model: nn.Module) -> Phi3VForCausalLM:
    """The model under its own type.

    Raises:
        UserError: When it is another model.
    """
    if isinstance(model, Phi3VForCausalLM):
        return model
    raise UserError(f"expected a Phi-3-Vision model, got {type(model).__name__}")


def _sort_metadata(file: Path) -> None:
    """Let the same adapter be the same bytes: safetensors writes metadata in an order by chance."""
    with file.open("r+b") as opened:
        size = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        opened.seek(8)
        opened.write(text.ljust(size))  # with the spaces that were behind it before


def _sort_lists(path: Path) -> None:
    """Give the lists that PEFT keeps as sets one order, so that equal runs write equal files."""
    config = json.loads(path.read_text())
    for key in ("target_modules", "modules_to_save"):
        if isinstance(config[key], list):
            config[key].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
