"""The agent: opens captures on its machine and streams packets to the api.

``agent``
    the service: listens, counts captures, drains.
``session``
    a session with an api, which is one capture of one target.
``delivering``
    the packets and notices that it sends, and holds back during loop tests.
``presence``
    interfaces that come and go while a capture runs.
``owner``
    what a session needs of the agent.
``reading``
    one source on the reactor: ring → batch → records → frame.
``opening``
    opens sources on a short-lived thread, so that the reactor never waits.
``threads``
    a few threads that open and close captures; users take turns.
``owntraffic``
    which connections are pcapd's own and therefore not captured.
``loops``
    detects captures that feed each other; pure.
``feedback``
    runs the detection on the reactor.
``withheld``
    packets that a session holds back during a test.
``containers``
    finds the container of an app instance on a Diego cell.
"""
