"""From a recipe and seeds to a trained member."""

from popnet.training.schedules import learning_rates

__all__ = ["learning_rates"]
