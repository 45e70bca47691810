"""Our daemons and what surrounds them, for tests/hosts.

``chain``
    two agents, an api and pcapctl, each in a namespace of its own.
``faults``
    the same with faults in the network, the processes and the clocks.
``foundation``
    an api between doubles of Cloud Foundry and of the agents.
``bosh``
    the same with a BOSH director.
``containers``
    an agent on a Diego cell with real containers.
``apps``
    cells with apps, from the container to Cloud Controller.
"""
