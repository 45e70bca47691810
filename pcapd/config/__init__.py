"""The daemon's configuration: typed, with all problems reported at once.

``units``
    durations and sizes with units; pcapctl's options use it too.
``schema``
    the values that the rest of the daemon uses, with their defaults.
``document``, ``checks``, ``section``, ``parse``, ``parse_static``
    from YAML to those values; pure.
``certificates``, ``load``
    checks of the named files; ``load`` is the only module that reads files.

Nothing is imported here: pcapctl imports ``units`` alone and has no PyYAML.
"""
