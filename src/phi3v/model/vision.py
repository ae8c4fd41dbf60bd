"""The picture side of Phi-3-Vision: crops -> CLIP features -> HD grid -> projected image tokens.

`VisionEmbedding.forward(pixel_values, image_sizes)` returns one tensor of image tokens per picture.
Attribute names follow the published checkpoints.
"""

# The libraries are typed in part.
# mypy: disable-error-code="no-untyped-call"

import torch
from torch import Tensor, nn
from transformers import CLIPVisionModel
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils.output_capturing import capture_outputs

from phi3v.model.configuration import Phi3VConfig
from phi3v.model.memory import PictureMemory


def count_image_tokens(height: int, width: int, crop_size: int, grid: int) -> int:
    """Image tokens of a picture whose padded size is `height` x `width` pixels.

    Args:
        height: padded height in pixels, a multiple of `crop_size`.
        width: padded width in pixels, a multiple of `crop_size`.
        crop_size: side of a crop in pixels.
        grid: tokens along one side of a crop (published: 12).

    Returns:
        All crops and the overview, one separator after every row of tokens, and one in between.
    """
    rows, columns = height // crop_size, width // crop_size
    return (rows * columns + 1) * grid * grid + 1 + (rows + 1) * grid


def merge_patches(features: Tensor, grid: int) -> Tensor:
    """Lays 2x2 neighbouring patches side by side on the channels.

    Args:
        features: (crops, 4 * grid**2, channels), patches row by row.
        grid: tokens along one side of a crop.

    Returns:
        (crops, grid, grid, 4 * channels) with the neighbours in reading order.
    """
    crops, _, channels = features.shape
    blocks = features.view(crops, grid, 2, grid, 2, channels)
    return blocks.permute(0, 1, 3, 2, 4, 5).reshape(crops, grid, grid, 4 * channels)


def tile_crops(crops: Tensor, rows: int, columns: int) -> Tensor:
    """Joins `rows` x `columns` crops, given row by row, into one grid.

    Args:
        crops: (rows * columns, grid, grid, channels).
        rows: crops on top of each other.
        columns: crops beside each other.

    Returns:
        (rows * grid, columns * grid, channels).
    """
    _, grid, _, channels = crops.shape
    tiles = crops.view(rows, columns, grid, grid, channels)
    return tiles.permute(0, 2, 1, 3, 4).reshape(rows * grid, columns * grid, channels)


class ClipTower(CLIPVisionModel):
    """CLIP's vision tower, run layer by layer and only as far as its feature is taken.

    Nothing outside chooses the layer: reading `hidden_states[-2]` of the stock model would return
    another layer once the language model around it had been asked for its hidden states, because
    recording hooks are then installed twice. Recording inside is switched off for the same reason.
    """

    def __init__(self, config: Phi3VConfig) -> None:
        super().__init__(config.clip)
        self.depth = config.vision_depth

    def get_input_embeddings(self) -> None:  # type: ignore[override]
        """None: a frozen tower must not be made to carry gradients for adapters further up."""
        return

    @capture_outputs(tie_last_hidden_states=False)  # type: ignore[untyped-decorator]
    def forward(self, crops: Tensor) -> BaseModelOutput:
        """Features of each patch, class token dropped.

        Args:
            crops: (crops, 3, image_size, image_size), normalised pixels.

        Returns:
            `last_hidden_state`: (crops, patches, hidden_size).
        """
        hidden = self.pre_layrnorm(self.embeddings(crops))
        for layer in self.encoder.layers[: self.depth]:
            hidden = layer(hidden, attention_mask=None)
        return BaseModelOutput(last_hidden_state=hidden[:, 1:])


class TowerHolder(nn.Module):
    """Gives the tower its published name, `img_processor.vision_model`."""

    def __init__(self, config: Phi3VConfig) -> None:
        super().__init__()
        self.vision_model = ClipTower(config)

    def forward(self, crops: Tensor) -> Tensor:
        """(crops, 3, side, side) -> (crops, patches, channels)."""
        features: Tensor = self.vision_model(crops, return_dict=True).last_hidden_state
        return features


class VisionEmbedding(nn.Module):
    """Turns crops of pictures into tokens in the language model's space."""

    def __init__(self, config: Phi3VConfig) -> None:
        super().__init__()
        self.img_processor = TowerHolder(config)
        channels = 4 * config.clip.hidden_size
        self.glb_GN = nn.Parameter(torch.zeros(1, 1, channels))
        self.sub_GN = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self.img_projection = nn.Sequential(
            nn.Linear(channels, config.hidden_size),
            nn.GELU(),
            nn.Linear(config.hidden_size, config.hidden_size),
        )
        self.grid = config.crop_grid
        self.crop_size = config.crop_size
        self.overview_last = config.hd_transform_order == "sub_glb"
        # Its owner gives it one where nothing on the way from pixels to tokens will change.
        self.memory: PictureMemory | None = None

    def forward(self, pixel_values: Tensor, image_sizes: Tensor) -> list[Tensor]:
        """Image tokens of every picture.

        Args:
            pixel_values: (pictures, crops + 1, 3, side, side): the overview, the real crops row by
                row, then padding crops that are never looked at.
            image_sizes: (pictures, 2), padded height and width in pixels.

        Returns:
            One (tokens, hidden_size) tensor per picture.

        Raises:
            ValueError: the sizes ask for more crops than there are, or are no multiple of a crop.
        """
        shapes = [self._rows_and_columns(size) for size in image_sizes.tolist()]
        counts = [rows * columns + 1 for rows, columns in shapes]
        self._check(pixel_values, counts)
        real = [picture[:n] for picture, n in zip(pixel_values, counts, strict=True)]
        if self.memory is None:
            return self._tokens(real, shapes)
        return self.memory.recall(
            real, lambda new: self._tokens([real[n] for n in new], [shapes[n] for n in new])
        )

    def _tokens(self, real: list[Tensor], shapes: list[tuple[int, int]]) -> list[Tensor]:
        """The tokens of pictures of which the real crops are given."""
        merged = merge_patches(self.img_processor(torch.cat(real)), self.grid)
        tokens = [
            self._lay_out(crops, rows, columns)
            for crops, (rows, columns) in zip(
                merged.split([len(crops) for crops in real]), shapes, strict=True
            )
        ]
        # Tower and projector may stand in types of their own, where one of them trains whole.
        dtype = next(self.img_projection.parameters()).dtype
        projected = self.img_projection(torch.cat(tokens).to(dtype))
        return list(projected.split([len(t) for t in tokens]))

    def blank_tokens(self) -> Tensor:
        """The tokens of the smallest picture, (tokens, hidden_size), without a look at a memory."""
        side = self.crop_size
        crops = self.glb_GN.new_zeros(2, 3, side, side)
        return self._tokens([crops], [(1, 1)])[0]

    def count_tokens(self, image_sizes: Tensor) -> list[int]:
        """Image tokens of every picture with the padded sizes `image_sizes` (pictures, 2)."""
        return [
            count_image_tokens(height, width, self.crop_size, self.grid)
            for height, width in image_sizes.tolist()
        ]

    def _rows_and_columns(self, size: list[int]) -> tuple[int, int]:
        height, width = size
        if min(size) < self.crop_size or height % self.crop_size or width % self.crop_size:
            raise ValueError(
                f"image_sizes holds {height}x{width}, which is no multiple of the crop size "
                f"{self.crop_size}"
            )
        return height // self.crop_size, width // self.crop_size

    def _check(self, pixel_values: Tensor, counts: list[int]) -> None:
        if pixel_values.ndim != 5 or len(pixel_values) != len(counts):
            raise ValueError(
                f"pixel_values of shape {tuple(pixel_values.shape)} does not hold (pictures, crops "
                f"+ 1, channels, side, side) for {len(counts)} pictures"
            )
        if max(counts) > pixel_values.shape[1]:
            raise ValueError(
                f"image_sizes asks for {max(counts)} crops with the overview, pixel_values has "
                f"{pixel_values.shape[1]}"
            )

    def _lay_out(self, crops: Tensor, rows: int, columns: int) -> Tensor:
        overview = self._with_separators(crops[0])
        detail = self._with_separators(tile_crops(crops[1:], rows, columns))
        separator = self.glb_GN[0].to(crops.dtype)
        parts = [detail, separator, overview]
        return torch.cat(parts if self.overview_last else parts[::-1])

    def _with_separators(self, grid: Tensor) -> Tensor:
        rows, _, channels = grid.shape
        separators = self.sub_GN[0].to(grid.dtype).expand(rows, 1, channels)
        return torch.cat([grid, separators], dim=1).flatten(0, 1)
