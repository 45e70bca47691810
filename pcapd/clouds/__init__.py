"""Reads the answers of Cloud Controller, BOSH directors and UAA.  Pure: no I/O, no clock.

The api and pcapctl use it.

``cloudcontroller``
    Cloud Controller: apps, processes, permissions, instances.
``appssh``
    Cloud Controller: whether an app's instances can be reached with ssh, and on which ports.
``optin``
    whether an app has opted in to captures: labels and lists.
``roles``
    Cloud Controller: which roles allow a capture, and who has them.
``director``
    a BOSH director: its description, deployments, instances.
``directorssh``
    a BOSH director's set-up of ssh: requests, tasks, accounts on VMs.
``uaa``
    UAA's answers to a login of the CLIs, and to a client of its own: tokens.
``tokens``
    access tokens: form, expiry, claims, owner.
``reading``
    reads JSON answers; every invalid answer raises the same error.
"""
