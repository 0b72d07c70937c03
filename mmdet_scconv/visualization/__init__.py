"""Figures of models and trainings, and the report of a training."""
