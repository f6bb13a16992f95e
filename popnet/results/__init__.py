"""One reader of anyone's results: arrays, tables, evaluation logs and stores, for every command and for Python.

It says what it found, aligns runs by their seeds and examples by their ids, and refuses what is ambiguous.
"""
