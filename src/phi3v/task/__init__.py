"""What is asked about a picture and what is answered: template, typed fields, parser."""

from phi3v.task.direction import direction
from phi3v.task.field import METRICS, Field, Value, nearest, normal_label, read_number
from phi3v.task.task import Task

__all__ = [
    "METRICS",
    "Field",
    "Task",
    "Value",
    "direction",
    "nearest",
    "normal_label",
    "read_number",
]
