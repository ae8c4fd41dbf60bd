"""How good a model is and whether it looks: controls, comparison, verdict, report."""
