"""Fine-tuning as a LightningModule: loss on the answers, validation on what the model writes.

    module = FineTuning(model, processor, task, AdamW(lr=2e-4), Cosine(), metrics)
    Trainer(callbacks=[BestCheckpoint(...)]).fit(module, datamodule)

Batches are dicts (see phi3v.data): ids, input_ids, attention_mask, labels, pixel_values and
image_sizes; those of validation also have truths, prompt_input_ids and prompt_attention_mask.
Checkpoints hold what trains and the state of the training, never the frozen base.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, distributed, nn
from torch.optim import Optimizer

from phi3v.adapter import trained_state
from phi3v.adapter.state import check_same_tensors
from phi3v.errors import UserError
from phi3v.metric import FieldMetrics
from phi3v.model import Phi3VProcessor
from phi3v.model.divided import whole
from phi3v.model.slices import WeightFiles
from phi3v.optim import OptimizerBuilder, SchedulerBuilder
from phi3v.task import Task
from phi3v.training.generation import generate_answers
from phi3v.training.loss import base_of, supervised_loss
from phi3v.training.non_finite import NonFiniteSteps
from phi3v.training.progress import Pace, check_pace, pace_of, rewind_to_step
from phi3v.training.sharding import is_sharded
from phi3v.training.step_sums import StepSums, StepTotal

PREFIX = "model."  # of the trained tensors' names in a checkpoint: this module's attribute


@dataclass(frozen=True)
class Prediction:
    """What the model wrote for one example of the last validation, and what was right."""

    id: str
    truth: str
    text: str


class FineTuning(LightningModule):
    """One training of one model on one task.

    Args:
        model: Phi-3-Vision with its adapter attached; what requires a gradient is trained.
        processor: Decodes generated answers.
        task: Writes true answers for the sample table.
        optimizer: Builds the optimizer for the model.
        scheduler: Builds the learning-rate schedule, stepped after every optimizer step.
        metrics: Metrics of the task's fields for validation.
        max_new_tokens: Longest answer in validation.
        seed: Of the noise in training, that is of dropout.
        max_skipped_steps: So many steps whose loss or gradient is not finite are left out before
            the next one stops the training.
        weights: Of a base that was built without any; read when the model has been divided.
    """

    def __init__(
        self,
        model: nn.Module,
        processor: Phi3VProcessor,
        task: Task,
        optimizer: OptimizerBuilder,
        scheduler: SchedulerBuilder,
        metrics: FieldMetrics,
        max_new_tokens: int = 64,
        seed: int = 0,
        max_skipped_steps: int = 0,
        weights: WeightFiles | None = None,
    ) -> None:
        super().__init__()
        # Loaded models come in evaluation mode and Lightning keeps modes as it finds them.
        self.model = model.train()
        self.processor = processor
        self.task = task
        self.optimizer_builder = optimizer
        self.scheduler_builder = scheduler
        self.metrics = metrics
        self.max_new_tokens = max_new_tokens
        self.seed = seed
        self.non_finite = NonFiniteSteps(max_skipped_steps)
        self.weights = weights
        self.predictions: list[Prediction] = []
        self._validated = (0.0, 0)  # the summed loss of a validation and its tokens, on this rank
        # Of the step that is being gathered, on this rank.
        self._ids: list[str] = []
        self.sums = StepSums(self.model)
        self.last_step = StepTotal()
        self._pace_before: Pace | None = None
        self.strict_loading = False  # the base is not in a checkpoint; on_load_checkpoint is strict

    def cpu(self) -> Self:
        """Stay: Lightning moves what it has trained to the CPU, and here it is scored next."""
        return self

    def configure_model(self) -> None:
        """Divide the model over the processes where the strategy asks for it, and fill it.

        Lightning calls this again before a validation.
        """
        if self.device_mesh is None or is_sharded(self.model):
            return
        strategy: Any = self.trainer.strategy
        strategy.divide(self.model, self.weights)

    def on_fit_start(self) -> None:
        """Let every rank go through the picture side where ranks have something to share there."""
        base = base_of(self.model)
        side = base.model.vision_embed_tokens
        trains = any(parameter.requires_grad for parameter in side.parameters())
        base.model.always_looks = trains or is_sharded(self.model)

    def on_train_batch_start(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Draw dropout's noise from the place in the training alone, and keep count of it.

        A resumed training then goes on with the noise that it would have had, on every rank and
        without a generator's state from each of them in the checkpoint.
        """
        # What loggers call the step; a resumed loop loses count of it at some places.
        self.trainer.fit_loop.epoch_loop._batches_that_stepped = self.trainer.global_step
        micro = batch_idx % self.trainer.accumulate_grad_batches
        place = (self.seed, self.trainer.global_step, micro, self.trainer.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0]))

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """The summed loss of the batch's supervised tokens; see `on_before_optimizer_step`."""
        total, count = supervised_loss(self.model, batch)
        self.sums.add(batch, total, count)
        self._ids += batch["ids"]
        return total

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Make the gradient that of the mean over all supervised tokens of the step.

        Averages over micro-batches and ranks would weigh a token by how many others happen to share
        its micro-batch, so that the training would depend on where it runs. Here the sum over all
        of them is divided once, by the number of tokens that all of them have.
        """
        self.last_step = step = self.sums.take(self.trainer.strategy)
        if step.supervised == 0:
            raise ValueError("no supervised token in the whole step")
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        # Lightning has divided by the micro-batches, the strategy by the ranks.
        parts = self.trainer.accumulate_grad_batches * self.trainer.world_size
        for gradient in gradients:
            gradient.mul_(parts / step.supervised)
        norm, loss = float(_total_norm(gradients)), step.loss / step.supervised
        self._keep_finite(loss, norm)
        self.log_dict({
            "train/loss": loss, "train/examples": step.examples, "train/tokens": step.tokens,
            "train/grad_norm": norm, "train/padding": 1 - step.tokens / step.places,
            "train/tflop": step.tflop,
        })  # fmt: skip
        for group in optimizer.param_groups:
            self.log(f"lr/{group['name']}", group["lr"])

    def _keep_finite(self, loss: float, norm: float) -> None:
        """Take the gradients away from a step that would spoil the weights, or stop before it.

        Both numbers are those of all ranks together, so all of them do the same.
        """
        ids, self._ids = self._ids, []
        # A gradient scaler expects infinite gradients, and leaves such steps out by itself.
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        norm = 0.0 if scaled else norm
        if math.isfinite(loss) and math.isfinite(norm):
            return
        if distributed.is_available() and distributed.is_initialized():
            everywhere: list[list[str]] = [[] for _ in range(distributed.get_world_size())]
            distributed.all_gather_object(everywhere, ids)
            ids = [name for one in everywhere for name in one]
        if not self.non_finite.allows(self.trainer.global_step + 1, loss, norm, ids):
            for parameter in self.model.parameters():
                parameter.grad = None

    def on_validation_epoch_start(self) -> None:
        """Forget what an earlier validation or the sanity check left."""
        self.metrics.reset()
        self.predictions = []
        self._validated = (0.0, 0)

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Score the true answers, then let the model write its own."""
        total, count = supervised_loss(self.model, batch)
        loss, tokens = self._validated
        self._validated = (loss + float(total), tokens + count)
        texts = generate_answers(self.model, self.processor, batch, self.max_new_tokens)
        ids, truths = batch["ids"], batch["truths"]
        self.metrics.update(ids, texts, truths)
        self.predictions += [
            Prediction(name, self.task.write_answer(truth), text)
            for name, truth, text in zip(ids, truths, texts, strict=True)
        ]

    def on_validation_epoch_end(self) -> None:
        """Log val/loss, the mean over all ranks' tokens, and what the answers are measured by.

        Those are val/parse_rate and val/<field>/<metric>. Lightning's own mean over ranks would cut
        their mean number of tokens to a whole one.
        """
        sums = torch.tensor(self._validated, device=self.device)
        together: Any = self.trainer.strategy.reduce(sums, reduce_op="sum")
        loss, tokens = together.tolist()
        values = {f"val/{name}": value for name, value in self.metrics.compute().items()}
        self.log_dict({"val/loss": loss / max(tokens, 1), **values})

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Build the optimizer, and the schedule over the steps that the trainer will take."""
        optimizer = self.optimizer_builder.build(self.model)
        steps = self.trainer.estimated_stepping_batches
        if not 0 < steps < float("inf"):
            raise UserError("the training has no end: set trainer.max_epochs or trainer.max_steps")
        schedule = self.scheduler_builder.build(optimizer, int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep of the model only what trains, and how the steps were divided."""
        state = trained_state(self.model, keeps=self.trainer.is_global_zero)  # which writes it
        checkpoint["state_dict"] = {PREFIX + name: tensor for name, tensor in state.items()}
        checkpoint["layout"] = self._layout()
        checkpoint["pace"] = pace_of(self.trainer)
        checkpoint["skipped_steps"] = self.non_finite.skipped

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that does not hold exactly what trains here, or not the same way."""
        state = weights_in(checkpoint)
        check_same_tensors(trained_state(self.model), state, "the checkpoint's weights")
        before, now = checkpoint["layout"], self._layout()
        if before != now and self._drops_out():
            # Drawn for each micro-batch of each process, the noise would be another one.
            raise UserError(
                f"the checkpoint is of a training on {before['devices']} device(s) with "
                f"{before['micro_batches']} micro-batch(es) a step, this one has {now['devices']} "
                f"and {now['micro_batches']}: with dropout it would be another training; go on "
                "with as many, or start anew"
            )
        self._pace_before = checkpoint["pace"]
        self.non_finite.skipped = checkpoint["skipped_steps"]
        loop = checkpoint["loops"]["fit_loop"]
        rewind_to_step(loop, before["micro_batches"], now["micro_batches"])

    def on_train_start(self) -> None:
        """Refuse to go on at another pace than the training was begun at."""
        if self._pace_before:
            check_pace(self._pace_before, pace_of(self.trainer))

    def _drops_out(self) -> bool:
        """Whether anything in the model is dropped at random in training."""
        layers = [one for one in self.model.modules() if isinstance(one, nn.Dropout)]
        config = base_of(self.model).config
        shares = [float(one.attention_dropout or 0) for one in (config, config.clip)]
        return any(layer.p > 0 for layer in layers) or any(share > 0 for share in shares)

    def _layout(self) -> dict[str, int]:
        trainer = self.trainer
        return {
            "devices": trainer.world_size,
            "micro_batches": trainer.accumulate_grad_batches,
        }


def _total_norm(gradients: list[Tensor]) -> Tensor:
    norm: Tensor = whole(nn.utils.get_total_norm(gradients))
    return norm


def weights_in(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The trained tensors of a checkpoint by the names that they have in the model."""
    state: dict[str, Tensor] = checkpoint["state_dict"]
    return {name.removeprefix(PREFIX): tensor for name, tensor in state.items()}


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the trained tensors from a checkpoint file, for `load_trained_state`.

    Raises:
        UserError: When the file is not there or is not a checkpoint of this program.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        return weights_in(checkpoint)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such checkpoint") from None
    except Exception as error:  # torch raises whatever the torn file makes it stumble over
        raise UserError(f"{path}: not a readable checkpoint ({type(error).__name__})") from error
