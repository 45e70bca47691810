"""The daemon's configuration: typed, every problem reported at once.

``units``
    durations and sizes as people write them; pcapctl reads its options with it.
``schema``
    the values that the rest of the daemon sees, with their defaults.
``document``, ``checks``, ``section``, ``parse``, ``parse_static``
    from YAML to those values; pure.
``certificates``, ``load``
    what the named files must hold; the only place that reads files.

Nothing is imported here: pcapctl takes ``units`` alone and has no PyYAML.
"""
