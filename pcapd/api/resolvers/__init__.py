"""From a request and a token to a user and the targets they may capture.

``base``
    what a resolver is, and what it answers.
``static``
    the targets and users of the configuration.
``cloudfoundry``, ``cc``
    Cloud Foundry apps; what Cloud Controller's answers mean.
``bosh``, ``director``, ``tokens``
    VMs of BOSH deployments; what the director's answers mean; whose tokens are believed.
``questions``
    the queue in front of an authority: clients take turns.
``probe``
    looks again and again whether an authority is there.
"""
