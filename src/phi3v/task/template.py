"""Sentences with places for values: written from a row, and taken apart again.

template = Template("Product: {title}, Price: {price}", "answer")
template.write({"title": "Scarf", "price": "470"})    # "Product: Scarf, Price: 470"
template.split("product: Scarf , price: 470")          # {"title": "Scarf", "price": "470"}
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping

from phi3v.errors import UserError


class Template:
    """Literal texts and the names between them, as in Python's `str.format` without specs.

    Args:
        text: the template; `{{` and `}}` stand for braces.
        role: what it is, for error messages ("question", "answer").

    Attributes:
        names: the placeholders in order.
        literals: the texts around them, one more than there are names.

    Raises:
        UserError: unbalanced braces, a placeholder that is not a plain name.
    """

    def __init__(self, text: str, role: str) -> None:
        self.text, self.role = text, role
        literals, names = [""], []
        try:
            pieces = list(string.Formatter().parse(text))
        except ValueError as error:
            raise UserError(f"task {role} {text!r}: {error}; write {{{{ for a brace") from None
        for literal, name, spec, conversion in pieces:
            literals[-1] += literal
            if name is None:
                continue
            if not name.isidentifier() or spec or conversion:
                raise UserError(
                    f"task {role} {text!r}: a placeholder is the plain name of a column, like"
                    " {title}; a number's format stands under fields"
                )
            names.append(name)
            literals.append("")
        self.names, self.literals = tuple(names), tuple(literals)
        bare = [*self.literals]
        bare[0], bare[-1] = bare[0].lstrip(), bare[-1].rstrip()
        patterns = [_tolerant(literal) for literal in bare]
        patterns[-1] = rf"(?:{patterns[-1]})\Z"
        self._anchors = [re.compile(pattern, re.IGNORECASE) for pattern in patterns]

    def check_separable(self) -> None:
        """Hold the template to what taking apart needs.

        Raises:
            UserError: a name that stands twice, or two with nothing but space between them.
        """
        for name in self.names:
            if self.names.count(name) > 1:
                raise UserError(f"task {self.role} {self.text!r}: {{{name}}} stands in it twice")
        for left, between, right in zip(
            self.names[:-1], self.literals[1:-1], self.names[1:], strict=True
        ):
            if not between.strip():
                raise UserError(
                    f"task {self.role} {self.text!r}: between {{{left}}} and {{{right}}} there"
                    " must be a word or a sign, so that an answer can be taken apart"
                )

    def write(self, values: Mapping[str, str]) -> str:
        """The sentence with every placeholder replaced."""
        behind = zip(self.names, self.literals[1:], strict=True)
        return self.literals[0] + "".join(values[name] + literal for name, literal in behind)

    def split(self, text: str) -> dict[str, str | None]:
        """Take a sentence apart: the stripped text of every placeholder.

        The first literal must open the text and the last one close it; each literal between is
        taken at its first place after the one before. A placeholder is None unless both literals
        around it were found. Case and the width of spaces do not matter.
        """
        text = text.strip()
        opening = self._anchors[0].match(text)
        spans = [opening.span() if opening else None]
        position = opening.end() if opening else 0
        for anchor in self._anchors[1:]:
            found = anchor.search(text, position)
            spans.append(found.span() if found else None)
            position = found.end() if found else position
        return {
            name: text[before[1] : after[0]].strip() if before and after else None
            for name, before, after in zip(self.names, spans[:-1], spans[1:], strict=True)
        }


def _tolerant(literal: str) -> str:
    """The pattern of a literal in which spaces may be wider, or absent beside a sign.

    Beside a letter they may not be absent: " by " must not be found inside "Derby".
    """
    pattern = ""
    pieces = re.split(r"(\s+)", literal)
    for index, piece in enumerate(pieces):
        if not piece.isspace():
            pattern += re.escape(piece)
            continue
        sides = [side for side in (pieces[index - 1][-1:], pieces[index + 1][:1]) if side]
        pattern += r"\s+" if all(side.isalnum() for side in sides) else r"\s*"
    return pattern
