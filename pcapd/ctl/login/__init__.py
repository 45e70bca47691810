"""Reads the user's logins of the cf and BOSH CLIs, and finds targets with them.

================  ===========================================================
``cfconfig``      parses the cf CLI's configuration and replaces its tokens.  Pure.
``cflogin``       reads and writes the cf CLI's configuration file
``boshconfig``    parses the BOSH CLI's configuration and replaces its tokens.  Pure.
``boshlogin``     reads and writes the BOSH CLI's configuration file
``fetch``         one HTTP request, with limits on bytes and time
``cloud``         requests to Cloud Controller and UAA
``boshdirector``  requests to the BOSH director and its UAA
``cf``            finds the app and the api for ``pcapctl cf``
``cfssh``         finds the app's instances for ``pcapctl cf --via ssh``
``bosh``          finds the VMs for ``pcapctl bosh``
``boshssh``       the accounts of ``pcapctl bosh --via ssh``: makes and removes them
``boshhosts``     how ssh reaches VMs: words, jump host, known hosts.  Pure.
================  ===========================================================
"""
