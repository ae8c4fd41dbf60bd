"""Metrics by field type over torchmetrics; knows tasks, but neither models nor data."""

from phi3v.metric.baselines import baselines, best_constant
from phi3v.metric.field_metrics import FieldMetrics
from phi3v.metric.intervals import bootstrap

__all__ = ["FieldMetrics", "baselines", "best_constant", "bootstrap"]
