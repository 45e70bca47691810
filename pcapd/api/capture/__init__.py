"""One user's capture over many agents, and its audit records.

``life``
    the capture: fan-in, limits, the end.
``machine``
    its states.
``gathering``
    makes the agents of a large capture start together.
``sources``
    what each source delivered and lost.
``stopping``
    the time limits of agents after STOP.
``facts``
    what agents, logs and audit records contain about a capture.
``sink``
    the interfaces of a capture's output and of what adds targets to it.
``agentlink``
    the connection to one agent, for one target of one capture.
``following``
    adds instances that restart, move or appear while a capture runs.
``audit``
    the audit log: who captured what, and what was refused.
"""
