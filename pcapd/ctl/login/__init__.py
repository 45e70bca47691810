"""Who the user is to Cloud Foundry and BOSH, and what they may mean: the CLIs' logins.

================  ===========================================================
``cfconfig``      the cf CLI's configuration: read, and tokens replaced.  Pure.
``cflogin``       the cf CLI's configuration as a file
``boshconfig``    the BOSH CLI's configuration.  Pure.
``boshlogin``     the BOSH CLI's configuration as a file
``fetch``         one HTTP request, bounded in bytes and time
``cloud``         what is asked of Cloud Controller and UAA
``boshdirector``  what is asked of the BOSH director and its UAA
``cf``            from an app's name and a cf login to what the api is asked for
``bosh``          from a deployment and a BOSH login to what the api is asked for
================  ===========================================================
"""
