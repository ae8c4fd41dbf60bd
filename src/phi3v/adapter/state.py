"""The trained tensors of a model, taken out for a checkpoint and put back with a strict check."""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from phi3v.errors import UserError
from phi3v.model.divided import divided_like, on_cpu


def trained_state(model: nn.Module, keeps: bool = True) -> dict[str, Tensor]:
    """Name -> tensor of every parameter that trains, in the model's order.

    They are views, or put together on the CPU where the model is divided over processes; all of
    these have to call this then.

    Args:
        model: What trains, or a part of it.
        keeps: Whether this process needs them; else it only takes part in putting them together.
    """
    state = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            tensor = on_cpu(parameter.detach())
            if keeps:
                state[name] = tensor
    return state


def load_trained_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy a state of `trained_state` into a model that trains the same parameters.

    Raises:
        UserError: When a trained tensor is missing, one is unexpected, or a shape differs. The
            model is then unchanged.
    """
    own = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    check_same_tensors(own, state, "the trained weights")
    for name, tensor in own.items():
        tensor.copy_(divided_like(tensor, state[name]))


def check_same_tensors(own: Mapping[str, Tensor], given: Mapping[str, Tensor], what: str) -> None:
    """Hold the names and shapes of `given` to those of `own`.

    Raises:
        UserError: Naming the first differences and how many there are.
    """
    missing = [name for name in own if name not in given]
    unexpected = [name for name in given if name not in own]
    if missing or unexpected:
        parts = [_listing("missing", missing), _listing("unexpected", unexpected)]
        raise UserError(
            f"{what} do not fit this model ({'; '.join(filter(None, parts))}); "
            "use the model and adapter settings they were trained with"
        )
    for name, tensor in own.items():
        if tensor.shape != given[name].shape:
            raise UserError(
                f"{what} do not fit this model: {name} has shape {tuple(given[name].shape)}, "
                f"here it is {tuple(tensor.shape)}; use the settings they were trained with"
            )


def _listing(word: str, names: Iterable[str]) -> str:
    all_names = list(names)
    if not all_names:
        return ""
    more = f" and {len(all_names) - 2} more" if len(all_names) > 2 else ""
    return f"{len(all_names)} {word}: {', '.join(all_names[:2])}{more}"
