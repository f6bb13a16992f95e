"""Tables: strict reading of CSV and its kin, and which of their rows are runs, steps of a training, or examples."""
