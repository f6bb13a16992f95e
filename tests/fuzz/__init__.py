"""Loaders of what other people send, against damaged and hostile input.

    python -m tests.fuzz --loader yaml --inputs 100000 --seed 1

Each input is a valid file, changed: bytes, numbers and lengths, parts of the format itself, or made up of random bytes.
Input i of a loader follows from (seed, i) alone, so a failure is made again by its number. A loader passes where
every input is either read or refused by one of popnet's own errors, within a bound of time and of memory; it runs in a
process of its own, so that a crash of native code is a finding and not the end.
"""
