"""What `generate_answers` writes is the greedy answer of each row, and it ends where it should."""

import pytest
import torch

from phi3v.adapter import LoraAdapter
from phi3v.training import generate_answers


@torch.no_grad()
def greedy_without_cache(model, processor, batch, row, length):
    """The answer of one row, alone and without padding, every pass over everything."""
    mask = batch["prompt_attention_mask"][row].bool()
    ids = batch["prompt_input_ids"][row][mask].unsqueeze(0)
    for _ in range(length):
        out = model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=batch["pixel_values"][row : row + 1],
            image_sizes=batch["image_sizes"][row : row + 1],
        )
        token = out.logits[:, -1].argmax(-1, keepdim=True)
        if token.item() in processor.end_of_turn_ids:
            break
        ids = torch.cat([ids, token], dim=1)
    new = ids[0, int(mask.sum()) :]
    return processor.tokenizer.decode(new, skip_special_tokens=True).strip()


def test_answers_are_those_of_a_plain_greedy_loop_over_each_row_alone(base, processor, batch):
    wanted = [greedy_without_cache(base, processor, batch, row, 12) for row in range(5)]
    assert len(set(batch["prompt_attention_mask"].sum(1).tolist())) > 1  # some rows are padded
    assert generate_answers(base, processor, batch, 12) == wanted
    assert len(set(wanted)) > 1


def test_an_adapter_takes_part(base, processor, batch):
    before = generate_answers(base, processor, batch, 12)
    model = LoraAdapter(r=4, alpha=64).attach(base)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    assert generate_answers(model, processor, batch, 12) != before


@pytest.mark.parametrize("number", [0, 1])
def test_generation_stops_at_either_end_of_turn(base, processor, batch, number):
    end = processor.end_of_turn_ids[number]
    calls = []

    def always_end(_, __, logits):
        calls.append(1)
        logits = torch.zeros_like(logits)
        logits[..., end] = 9.0
        return logits

    base.lm_head.register_forward_hook(always_end)
    assert generate_answers(base, processor, batch, 12) == [""] * 5
    assert len(calls) == 1


def test_gradient_checkpointing_and_training_mode_do_not_get_in_the_way(base, processor, batch):
    wanted = generate_answers(base, processor, batch, 12)
    base.activation_checkpointing_enable()
    model = LoraAdapter(r=2, alpha=4, dropout=0.5).attach(base).train()
    base.model.vision_embed_tokens.eval()
    modes = [module.training for module in model.modules()]
    assert generate_answers(model, processor, batch, 12) == wanted
    assert [module.training for module in model.modules()] == modes


def test_decoder_passes_after_the_first_see_one_token(base, processor, batch):
    widths = []
    base.model.layers[0].register_forward_hook(
        lambda _, inputs, out: widths.append(inputs[0].shape[1])
    )
    generate_answers(base, processor, batch, 4)
    assert widths == [batch["prompt_input_ids"].shape[1], 1, 1, 1]


def test_a_batch_of_prompts_alone_gives_the_same(base, processor, batch, make_data):
    prompts = {
        "input_ids": batch["prompt_input_ids"],
        "attention_mask": batch["prompt_attention_mask"],
        "pixel_values": batch["pixel_values"],
        "image_sizes": batch["image_sizes"],
    }
    wanted = generate_answers(base, processor, batch, 6)
    assert generate_answers(base, processor, prompts, 6) == wanted


def test_a_batch_for_training_is_refused(base, processor, batch):
    training = {key: value for key, value in batch.items() if not key.startswith("prompt_")}
    with pytest.raises(ValueError, match="no prompts"):
        generate_answers(base, processor, training, 6)


def test_what_the_models_folder_says_of_generating_changes_no_answer(base, processor, batch):
    before = generate_answers(base, processor, batch, 12)
    stated = base.generation_config
    stated.update(repetition_penalty=5.0, no_repeat_ngram_size=1, num_beams=3, max_time=0.0)
    stated.update(return_dict_in_generate=True, stop_strings=["x"], temperature=0.5)
    assert generate_answers(base, processor, batch, 12) == before
    assert base.generation_config is stated
