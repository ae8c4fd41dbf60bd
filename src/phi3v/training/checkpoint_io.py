"""Writes checkpoints so that there is a whole one at every moment, whatever happens meanwhile."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from phi3v.errors import UserError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's files, each written beside its place first and then put there in one go.

    Lightning writes into the system's folder for temporary files first: where that is another disk,
    what is copied from there replaces the earlier checkpoint before it is complete.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint; an earlier one of that name stays until the new one is complete.

        Raises:
            UserError: When it cannot be written, as on a full disk; nothing is left of it then.
        """
        path = Path(path)
        part = path.with_name(f"{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except (OSError, RuntimeError) as error:  # torch's own, where the disk's is lost on the way
            free = shutil.disk_usage(path.parent).free if path.parent.is_dir() else 0
            part.unlink(missing_ok=True)
            reason = " ".join(str(error).split())[:200]
            kept = "; the earlier one of this name is as it was" if path.exists() else ""
            raise UserError(
                f"{path}: the checkpoint cannot be written, {free / 2**20:,.1f} MiB were free there"
                f" ({reason}){kept}: make space, then go on with resume=true"
            ) from error
