"""Keeps the screen for what the user has to know: other libraries' chatter is left out."""

import logging
import warnings

from transformers.utils import logging as transformers_logging

# Said at every start, true every time, and nothing that anybody could act on.
_CHATTER = (
    ".*isinstance\\(treespec, LeafSpec\\).*",
    ".*does not have many workers.*",
    ".*The number of training batches .* is smaller than the logging interval.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*It is recommended to use `self.log.*sync_dist=True.*",  # these metrics know of all ranks
    ".*anonymous setting has no effect.*",
    ".*base_model_name_or_path.* was renamed.*",  # a run may be moved to another machine's base
)


def quiet_libraries() -> None:
    """Lets through only the warnings of the libraries that a run is built on."""
    # "litlogger" is advertised at this level by both.
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # What the user asked for, with trainer.profiler, is told through this one.
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)
    # A prompt that is too long is an error of the data room, which names its row.
    transformers_logging.set_verbosity(logging.ERROR)
    for message in _CHATTER:
        warnings.filterwarnings("ignore", message=message)
