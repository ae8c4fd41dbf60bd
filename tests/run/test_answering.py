"""Answers come in the order of the examples, whatever order they were asked in."""

from types import SimpleNamespace

import pytest
import torch

from phi3v.run import answering

LENGTHS = {"a": 30, "b": 10, "c": 20, "d": 10, "e": 25}


@pytest.fixture
def asked(monkeypatch):
    """The batches of places that were asked, in their order; an answer is the example's own id."""
    batches = []

    def answer_batch(model, collate, examples, places, max_new_tokens, device):
        batches.append(list(places))
        return {place: examples[place].id for place in places}

    monkeypatch.setattr(answering, "answer_batch", answer_batch)
    monkeypatch.setattr(answering, "Collator", lambda *arguments: None)
    context = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=64))
    monkeypatch.setattr(answering, "model_inside", lambda model: context)
    return batches


def test_prompts_of_similar_length_are_asked_together_and_answers_stand_by_example(asked):
    data = SimpleNamespace(
        max_length=64,
        processor=None,
        eval_batch_size=2,
        lengths={name: SimpleNamespace(total=total) for name, total in LENGTHS.items()},
    )
    examples = [SimpleNamespace(id=name) for name in LENGTHS]
    model, device = torch.nn.Linear(1, 1), torch.device("cpu")
    texts = answering.answer_all(model, None, data, examples, 8, device)
    assert texts == list("abcde")
    assert asked == [[1, 3], [2, 4], [0]]


def test_what_is_done_is_noted_batch_by_batch(asked, monkeypatch):
    monkeypatch.setattr(answering, "shuffled_pictures", lambda examples, seed: examples)
    notes = []
    examples = [SimpleNamespace(id=name) for name in LENGTHS]
    data = SimpleNamespace(
        max_length=64,
        processor=None,
        eval_batch_size=3,
        lengths={name: SimpleNamespace(total=total) for name, total in LENGTHS.items()},
        examples={"train": examples, "test": examples[:1]},
    )
    found = answering.answer(
        torch.nn.Linear(1, 1), None, data,
        split="train", max_new_tokens=8, base=None, device=torch.device("cpu"), note=notes.append,
    )  # fmt: skip
    assert found.own == list("abcde")
    sets = ("fine-tuned", "blank pictures", "shuffled pictures")
    places = ("in batch 1 of 2", "in batch 2 of 2", "after the last batch of this process")
    assert notes == [f"{place}, {what}" for what in sets for place in places]


@pytest.mark.parametrize(("limit", "taken"), [(1.0, 5), (0.5, 2), (0.0, 1), (1, 2), (2, 4), (9, 5)])
def test_a_limit_is_a_number_of_batches_or_a_share(limit, taken):
    assert answering.limited(list(range(5)), limit, 2) == list(range(taken))
