"""Take one check out of the sources, and see whether a test fails.

``bin/mutants`` does that with every check of the files that it is given.  Nothing
depends on its result: run it when you want to know what holds a piece of code.
``exceptions.tsv`` lists the checks whose absence no ordinary test can show.
"""
