"""The commands of ``pcapctl`` and their options.

==============  =============================================================
``arguments``   the options that commands share, as click reads them
``completion``  the command line in shells
``man``         the man page, from what --help says
==============  =============================================================
"""
