"""One user's capture over many agents, and the record of it.

``life``
    the capture: fan-in, limits, the end.
``machine``
    its states.
``gathering``
    lets the agents of a large capture start together.
``sources``
    what each source delivered, and what was lost.
``stopping``
    the time that agents have after STOP.
``facts``
    what agents, logs and records get to know of a capture.
``sink``
    what is asked of where it goes.
``agentlink``
    the connection to one agent, for one target of one capture.
``following``
    adds the instances that restart, move or appear while a capture runs.
``audit``
    the audit log: who captured what, and what was refused.
"""
