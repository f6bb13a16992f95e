"""Evaluation logs: lm-evaluation-harness and Inspect."""
