"""A task: what a model is asked about a picture, and what it should answer.

Everything else follows from this one declaration (`conf/task/*.yaml`): the training text, the
parser of generated answers, the metrics and the report.

    task = Task(
        name="products",
        question="What is shown in this image?",
        answer="Product: {title}, Full Price: {full_price}",
        fields={"title": "text", "full_price": {"kind": "number", "format": ".2f"}},
        objective="full_price/mape",
    )
    task.parse("Product: Scarf, Full Price: $470")  # {"title": "Scarf", "full_price": 470.0}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from phi3v.errors import UserError
from phi3v.task.field import METRICS, Field, Value, nearest, read_number
from phi3v.task.template import Template


class Task:
    """Question, answer and typed fields.

    Args:
        name: a short name for tables and reports.
        question: a template over any columns of the data; may be plain text.
        answer: a template over declared fields.
        fields: each field's kind ("text", "label", "number"), or a mapping with `kind` and, for
            numbers, `format`. Fields that the answer leaves out are simply not learned.
        objective: the metric that selects checkpoints and that a run returns: "parse_rate" or
            "<field>/<metric>", for instance "full_price/mape".

    Attributes:
        fields: the declared fields by name.
        field_names: the fields of the answer, in its order.
        question_names: the columns that the question needs.
        columns: every column that question and answer need.

    Raises:
        UserError: anything that cannot be asked, read again or measured.
    """

    def __init__(
        self, name: str, question: str, answer: str, fields: Mapping[str, Any], objective: str
    ) -> None:
        self.name, self.objective = name, objective
        self.question, self.answer = question, answer
        self.fields = {key: _field(key, declared) for key, declared in fields.items()}
        self._question = Template(question, "question")
        self._answer = Template(answer, "answer")
        self._answer.check_separable()
        self.field_names = self._answer.names
        self.question_names = tuple(dict.fromkeys(self._question.names))
        self.columns = tuple(dict.fromkeys((*self._question.names, *self._answer.names)))
        self._check()

    def _check(self) -> None:
        if not self.field_names:
            raise UserError(f"task answer {self.answer!r}: it has no {{field}} to learn")
        for name in self.field_names:
            if name not in self.fields:
                hint = nearest(name, self.fields)
                raise UserError(f"task answer: {{{name}}} is not declared under fields; {hint}")
        if self.objective not in self.metric_names:
            hint = nearest(self.objective, self.metric_names)
            raise UserError(f"task objective {self.objective!r}: no such metric; {hint}")

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Every metric of this task, "parse_rate" first, then field by field."""
        names = ["parse_rate"]
        for field in self.field_names:
            own = ("parse_rate", *METRICS[self.fields[field].kind])
            names.extend(f"{field}/{metric}" for metric in own)
        return tuple(names)

    def write_question(self, values: Mapping[str, Value]) -> str:
        """The question about one row."""
        written = {name: self._write(name, values) for name in self._question.names}
        return self._question.write(written)

    def write_answer(self, values: Mapping[str, Value]) -> str:
        """The true answer for one row."""
        return self._answer.write({name: self._write(name, values) for name in self.field_names})

    def parse(self, text: str) -> dict[str, Value | None]:
        """Read a generated answer: the value of every field, None for one that is not stated."""
        pieces = self._answer.split(text)
        return {
            name: None if piece is None else self.fields[name].read(piece)
            for name, piece in pieces.items()
        }

    def truth(self, values: Mapping[str, Value], origin: str) -> dict[str, Value]:
        """The true value of every field of the answer, numbers as floats.

        Args:
            values: one row.
            origin: where it stands, for the message ("products.csv row 7").

        Raises:
            UserError: a value that is missing, empty, or for a number not finite and positive
                (a percentage error of zero does not exist).
        """
        return {name: self._truth(name, values, origin) for name in self.field_names}

    def check_values(self, values: Mapping[str, Value], origin: str) -> dict[str, Value]:
        """Hold one row of data to the task.

        Returns:
            The columns that the task needs: texts stripped, the answer's numbers as floats.

        Raises:
            UserError: see `truth`; also a text or a number from which the answer cannot be read
                again, because it contains what comes after it in the template.
        """
        checked = {name: self._present(name, values, origin) for name in self.columns}
        checked |= self.truth(values, origin)
        again = self.parse(self.write_answer(checked))
        for name in self.field_names:
            field, value = self.fields[name], checked[name]
            if field.kind == "number":
                # As far as it is written: a format may round.
                if again[name] != field.read(field.write(value)):
                    raise UserError(
                        f"{origin}: {name} {field.write(value)!r} cannot be read again from the"
                        f" answer {self.write_answer(checked)!r}; change the task's answer template"
                        " or the number's format"
                    )
            elif again[name] != value:
                raise UserError(
                    f"{origin}: {name} {value!r} contains words of the answer template"
                    f" {self.answer!r}, so it could not be read again; change one of them"
                )
        return checked

    def _write(self, name: str, values: Mapping[str, Value]) -> str:
        field = self.fields.get(name)
        return field.write(values[name]) if field else str(values[name])

    def _present(self, name: str, values: Mapping[str, Value], origin: str) -> Value:
        if name not in values:
            hint = nearest(name, dict(values))
            raise UserError(
                f"{origin}: there is no {name!r}, which task {self.name!r} needs; {hint}"
            )
        value = values[name]
        if not isinstance(value, str):
            return value
        if not value.strip() and name not in self.field_names:
            raise UserError(f"{origin}: {name} is empty; give it a value or leave the row out")
        return value.strip()

    def _truth(self, name: str, values: Mapping[str, Value], origin: str) -> Value:
        value = self._present(name, values, origin)
        if self.fields[name].kind != "number":
            if not str(value):
                raise UserError(f"{origin}: {name} is empty; give it a value or leave the row out")
            return str(value)
        number = read_number(str(value))
        if number is None or number <= 0:
            wrong = "is empty" if value == "" else f"{value!r} is not a number above zero"
            raise UserError(f"{origin}: {name} {wrong}; correct it or leave the row out")
        return number


def _field(name: str, declared: Any) -> Field:
    """Make a field of what stands in the YAML: a kind, or a mapping with kind and format."""
    if isinstance(declared, str):
        return Field(name, declared)
    if not isinstance(declared, Mapping) or "kind" not in declared:
        raise UserError(f"task field {name!r}: say its kind, one of {', '.join(METRICS)}")
    for key in declared:
        if key not in ("kind", "format"):
            hint = nearest(str(key), ("kind", "format"))
            raise UserError(f"task field {name!r}: there is no option {key!r}; {hint}")
    return Field(name, str(declared["kind"]), str(declared.get("format") or ""))
