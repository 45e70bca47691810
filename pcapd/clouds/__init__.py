"""What the clouds' authorities say, to the api and to pcapctl.  Pure: no reactor, no sockets, no clock.

``cloudcontroller``
    Cloud Controller: apps, processes, permissions, instances.
``director``
    a BOSH director: itself, deployments, instances.
``uaa``
    UAA's answers to the CLIs: tokens for a grant.
``tokens``
    access tokens: form, expiry, claims, whose they are.
``reading``
    takes JSON answers apart; what makes no sense is one error.
"""
