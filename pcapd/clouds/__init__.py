"""Reads the answers of the clouds' authorities, for api and pcapctl.  Pure: no I/O, no clock.

``cloudcontroller``
    Cloud Controller: apps, processes, permissions, instances.
``director``
    a BOSH director: its description, deployments, instances.
``uaa``
    UAA's answers to the CLIs: tokens for a grant.
``tokens``
    access tokens: form, expiry, claims, owner.
``reading``
    reads JSON answers; an invalid answer is one kind of error.
"""
