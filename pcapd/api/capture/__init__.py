"""One user's capture over many agents, and the record of it.

``life``
    the capture: fan-in, limits, the end.
``agentlink``
    the connection to one agent, for one target of one capture.
``following``
    adds the instances that restart, move or appear while a capture runs.
``audit``
    the audit log: who captured what, and what was refused.
"""
