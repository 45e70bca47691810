"""The agent: opens captures on its machine and streams packets to the api.

``agent``
    the service: listens, counts captures, drains.
``session``
    one conversation with an api, which is one capture of one target.
``delivering``
    what it says of its sources, and holds back while loops are looked for.
``presence``
    interfaces that come and go while a capture runs.
``owner``
    what a session asks of the agent.
``reading``
    one source on the reactor: ring → batch → records → frame.
``opening``
    opening sources on a thread that ends, so that the reactor never waits.
``threads``
    the few threads on which captures are opened and closed; users take turns.
``owntraffic``
    which connections are pcapd's own, and so in no capture.
``loops``
    recognises captures that feed each other; pure.
``feedback``
    the same on the reactor.
``withheld``
    packets that a session holds back meanwhile.
``containers``
    from an app instance to its container, on a Diego cell.
"""
