"""Our daemons and what surrounds them, for tests/hosts.

``chain``
    two agents, an api and pcapctl, each in a namespace of its own.
``several``
    three apis with one database, behind nginx.
``faults``
    the same with faults in the network, the processes and the clocks.
``foundation``, ``bosh``
    an api between doubles of Cloud Foundry, or of a BOSH director, and of the agents.
``overseen``
    the same for Cloud Foundry, with a client of the api's own and a store of recordings.
``containers``, ``apps``
    an agent on a Diego cell with real containers, and apps from the container to Cloud Controller.
``recordings``, ``clipping``
    an api with a store, and a user who asks over HTTP; the same with clips.
``takeover``
    several apis that share a PostgreSQL and a bucket, behind nginx.
``scraping``
    what a daemon serves to Prometheus.
``source``
    captures in network namespaces, without an agent.
``cf``, ``operator``
    users of ``pcapctl cf`` and ``pcapctl bosh``, with the servers that they log in to.
``boshssh``
    VMs with ssh servers, and a director who makes accounts there.
``cfssh``
    instances of an app that cf ssh reaches, with cf-pcap in their containers.
``overssh``
    captures with ``pcapctl ssh``, on the hosts of `tests.kit.lab.sshhosts`.
``scripted``
    pcapctl against an api that a test scripts.
``wireshark``
    a user with Wireshark and pcapctl.
"""
