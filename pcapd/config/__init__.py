"""The daemon's configuration: typed, with all problems reported at once.

``units``
    durations and sizes with units; also used for the options of pcapctl.
``schema``
    the values of a configuration as the rest of the daemon uses them, with their defaults.
``rules``
    the part of it about what may be captured and who records it.
``document``, ``checks``, ``section``, ``parse``, ``parse_policy``, ``parse_static``
    make these values from YAML; pure.
``certificates``, ``load``
    check the files that a configuration names; ``load`` is the only module that reads files.

This module imports nothing, because pcapctl imports only ``units`` and has no PyYAML.
"""
