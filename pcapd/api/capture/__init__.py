"""One user's capture over many agents, and its audit records.

``life``
    the capture: joins the agents' streams, applies the limits, ends.
``machine``
    its states.
``gathering``
    makes the agents of a large capture start together.
``sources``
    counters of the packets received and lost, for each source.
``stopping``
    the time limits of agents after STOP.
``facts``
    the data about a capture that is sent to agents and written to logs and audit records.
``sink``
    two interfaces: the output of a capture, and the object that adds targets to it.
``agentlink``
    the connection to one agent, for one target of one capture.
``following``
    adds instances that restart, move or appear while a capture runs.
``rechecking``
    checks while a capture runs whether its user still has the role that it needs.
``overseeing``
    decides which of the two a capture has, and whose token they use.
``audit``
    the audit log: who captured what, and what was refused.
"""
