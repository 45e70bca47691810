"""The agent: opens captures on its machine and streams packets to the api.

``agent``
    the service: listens, counts captures, drains.
``session``
    one conversation with an api, which is one capture of one target.
``reading``
    one source on the reactor: ring → batch → records → frame.
``opening``
    opening sources on a thread that ends, so that the reactor never waits.
``containers``
    from an app instance to its container, on a Diego cell.
"""
