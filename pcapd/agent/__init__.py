"""The agent: captures packets on its machine and sends them to the api, which serves the clients.

``agent``
    the service: listens, limits the number of captures, drains.
``session``
    a session with an api, which is one capture of one target.
``delivering``
    the packets and notices that a session sends; packets are held back during loop tests.
``presence``
    interfaces that appear and disappear while a capture runs.
``owner``
    what a session needs of the agent.
``metrics``
    counters and gauges for Prometheus.
``reading``
    one source on the reactor: ring → batch → records → frame.
``opening``
    opens sources on a short-lived thread, so that the reactor is not blocked.
``threads``
    a few threads that open and close captures, in turn for each user.
``owntraffic``
    which connections are pcapd's own and therefore not captured.
``loops``
    detects captures that capture each other's traffic; pure.
``feedback``
    runs the detection on the reactor.
``withheld``
    packets that a session holds back during a test.
``containers``
    finds the container of an app instance on a Diego cell.
"""
