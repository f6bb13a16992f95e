"""Stores: back to their plans, rows and populations."""
