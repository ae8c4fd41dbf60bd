"""What ends a run, written and shown: metrics.json, predictions.jsonl, report.html, the table."""

import logging
from io import StringIO
from typing import Any

import yaml
from omegaconf import DictConfig
from rich.console import Console

from phi3v.config import public_config
from phi3v.evaluation.comparison import terminal_table
from phi3v.evaluation.report import write_report
from phi3v.run.directory import RunDirectory
from phi3v.run.scoring import Scored
from phi3v.task import Task

log = logging.getLogger(__name__)


def write_results(
    run: RunDirectory,
    scored: Scored,
    task: Task,
    cfg: DictConfig,
    title: str,
    trained: RunDirectory | None = None,
) -> None:
    """Writes all that an evaluation found into its directory.

    Args:
        run: Where it is written.
        scored: What was found.
        task: What was asked.
        cfg: The configuration, for the report.
        title: Of the report.
        trained: The run whose history of training the report shows; by default `run` itself.
    """
    run.write_metrics(scored.summary)
    run.write_predictions(scored.predictions)
    write_report(
        run.report,
        title=title,
        summary=scored.summary,
        history=(trained or run).read_history(),
        predictions=scored.predictions,
        task=task,
        config_yaml=yaml.safe_dump(public_config(cfg), sort_keys=False, allow_unicode=True),
        environment=run.read_environment(),
        verdict=scored.summary["verdict"],
    )


def show_results(run: RunDirectory, summary: dict[str, Any], lines: dict[str, str]) -> None:
    """Logs the before/after table, the verdict and where everything lies."""
    text = StringIO()
    console = Console(file=text, width=80)
    console.print()
    console.print(terminal_table(summary))
    for sentence in summary["verdict"]:
        console.print(sentence, highlight=False)
    console.print()
    # Paths are kept whole, so that they can be copied.
    for name, value in {"report": str(run.report), **lines}.items():
        text.write(f"{name + ':':<10}{value}\n")
    log.info(text.getvalue().rstrip())
    log.info(f"run: {run.path}")  # the last line, for programs that start this one
