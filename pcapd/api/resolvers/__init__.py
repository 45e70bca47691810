"""Resolvers find the user of a token, and the targets of a request that the user may capture.

``base``
    the interface of a resolver, and the form of its answers.
``kinds``
    the list of resolvers, and the choice of one for a request.
``static``
    the targets and users of the configuration.
``cloudfoundry``, ``appquestion``, ``cc``
    Cloud Foundry apps; the questions about one app; the targets in Cloud Controller's answers.
``overseer``, ``ownclient``
    asks Cloud Controller without a user's token while a capture runs; the api's own UAA client.
``bosh``, ``director``, ``tokens``
    VMs of BOSH deployments; the targets in the director's answers; verification of tokens.
``questions``
    the queue in front of an authority: clients take turns.
``probe``
    checks regularly whether an authority is available.
"""
