"""Which example is for training, validation and test: seeded, grouped, stored by example id.

    splits = make_splits(examples, {"train": 0.8, "val": 0.1, "test": 0.1}, seed=0)
    save_splits(splits, run_dir / "splits.json")
    splits = load_splits(run_dir / "splits.json", examples)

The result depends on the examples and the seed only, never on the order of the rows: groups are
ordered by a hash of the seed and their smallest id, which is the same on every machine.
"""

import hashlib
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from phi3v.data.example import Example
from phi3v.data.grouping import united
from phi3v.errors import UserError
from phi3v.files import write_whole

log = logging.getLogger(__name__)


def make_splits(
    examples: Sequence[Example], fractions: Mapping[str, float], seed: int
) -> dict[str, list[str]]:
    """Divides examples so that no group and no picture stands in two splits.

    Args:
        examples: All examples; `Example.group` joins them, and so do pictures whose files hold
            the same bytes.
        fractions: Share of the rows for each split; they add up to 1 and are approximated: each
            group goes where the most rows are lacking, so a large one may unbalance small splits.
        seed: Another seed is another division.

    Returns:
        The sorted ids of each split, in the order of `fractions`; every split has some.

    Raises:
        UserError: When the fractions are no division, or there are fewer groups than splits.
    """
    _check_fractions(fractions)
    groups = sorted(_groups(examples), key=lambda ids: seeded_rank(ids[0], seed))
    if len(groups) < len(fractions):
        raise UserError(
            f"splits: {len(examples)} examples form only {len(groups)} groups, too few for "
            f"{len(fractions)} splits; {_way_out(examples)}"
        )
    divided = _divide(groups, fractions, len(examples))
    return {name: sorted(i for ids in chosen for i in ids) for name, chosen in divided.items()}


def seeded_rank(example_id: str, seed: int) -> bytes:
    """Returns a sort key that puts ids into an order fixed by the seed alone."""
    return hashlib.sha256(f"{seed} {example_id}".encode()).digest()


def save_splits(splits: Mapping[str, Sequence[str]], path: Path) -> None:
    """Writes splits in one go, as JSON: {"train": [ids], "val": [ids], "test": [ids]}."""
    write_whole(path, json.dumps(splits, indent=1, ensure_ascii=False) + "\n")


def ids_in(path: Path) -> set[str]:
    """Reads the example ids of all splits in a file of splits."""
    return {i for ids in read_splits(path).values() for i in ids}


def load_splits(path: Path, examples: Sequence[Example]) -> dict[str, list[str]]:
    """Reads splits and checks them against the examples that are there today.

    Examples that the file does not know stay unused, which is logged.

    Raises:
        UserError: When the file is missing or malformed, or names ids that the data lacks.
    """
    splits = read_splits(path)
    known = {example.id for example in examples}
    counts = Counter(i for ids in splits.values() for i in ids)
    twice = [i for i, count in counts.items() if count > 1]
    if twice:
        raise UserError(f"{path}: {len(twice)} ids stand in it twice, such as {twice[0]!r}")
    missing = [i for i in counts if i not in known]
    if missing:
        raise UserError(
            f"{path}: {len(missing)} of its {len(counts)} ids are not in the data any more, such "
            f"as {missing[0]!r}; point the run at the data that it was made with"
        )
    if len(known) > len(counts):
        log.warning("%s: %d newer examples are in no split", path, len(known) - len(counts))
    return splits


def read_splits(path: Path) -> dict[str, list[str]]:
    """Reads a file of splits, whatever data there are today.

    Raises:
        UserError: When the file is missing or malformed.
    """
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"splits file not found: {path}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a JSON file of splits ({error})") from None
    if not isinstance(splits, dict) or not all(
        isinstance(ids, list) and all(isinstance(i, str) for i in ids) for ids in splits.values()
    ):
        raise UserError(f"{path}: expected an object with a list of example ids for each split")
    return splits


def _check_fractions(fractions: Mapping[str, float]) -> None:
    if not fractions or any(share <= 0 for share in fractions.values()):
        raise UserError(f"splits: every share must be above 0, got {dict(fractions)}")
    total = sum(fractions.values())
    if abs(total - 1) > 1e-6:
        raise UserError(f"splits: the shares must add up to 1, got {total:g} in {dict(fractions)}")


def _groups(examples: Sequence[Example]) -> list[list[str]]:
    """Returns the sorted ids of each group."""
    digests = _digests({path for example in examples for path in example.images})
    keys = [
        [("group", example.group), *(("picture", digests[path]) for path in example.images)]
        for example in examples
    ]
    members: defaultdict[int, list[str]] = defaultdict(list)
    for example, group in zip(examples, united(keys), strict=True):
        members[group].append(example.id)
    return [sorted(ids) for ids in members.values()]


def _way_out(examples: Sequence[Example]) -> str:
    """What to do about too few groups: equal pictures join rows as columns to group by do."""
    digests = _digests({path for example in examples for path in example.images})
    rows: defaultdict[str, list[Path]] = defaultdict(list)
    for example in examples:
        for digest, path in {digests[path]: path for path in example.images}.items():
            rows[digest].append(path)
    shared = max(rows.values(), key=len, default=[])
    if len(shared) > 1:
        return (
            f"{shared[0]} is the picture of {len(shared)} of them, which no split divides; leave "
            "it out of the rows that it says nothing about, or add examples"
        )
    return "add examples or group them by fewer columns"


def _digests(paths: set[Path]) -> dict[Path, str]:
    """Returns one string per content; only files that share their size are read."""
    by_size: defaultdict[int, list[Path]] = defaultdict(list)
    for path in paths:
        by_size[path.stat().st_size].append(path)
    digests = {}
    for size, same_size in by_size.items():
        for path in same_size:
            alone = len(same_size) == 1
            digests[path] = str(size) if alone else hashlib.sha256(path.read_bytes()).hexdigest()
    return digests


def _divide(
    groups: Sequence[list[str]], fractions: Mapping[str, float], rows: int
) -> dict[str, list[list[str]]]:
    """Gives each group to the split that lacks the most rows, then fills splits left empty."""
    divided: dict[str, list[list[str]]] = {name: [] for name in fractions}
    lacking = {name: share * rows for name, share in fractions.items()}
    for ids in groups:
        name = max(lacking, key=lambda split: lacking[split])
        divided[name].append(ids)
        lacking[name] -= len(ids)
    for name in divided:
        if not divided[name]:
            donor = max(divided, key=lambda split: len(divided[split]))
            smallest = min(divided[donor], key=len)
            divided[donor].remove(smallest)
            divided[name].append(smallest)
    return divided
