"""Take one check out of the sources, and see which test fails.

``bin/mutants`` does that with every check; ``ledger.tsv`` says what it found.
"""
