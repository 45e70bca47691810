"""The commands of ``pcapctl``: one module for each, and what they share.

=====================  ======================================================
``registry``           the list of commands, one line each
``arguments``          the options that commands share
``besides``            the options of captures that the api records besides, and of rings
``quantities``         types of options with a unit
``capturing``          runs a capture from its options to the exit status
``align``              ``pcapctl align``: corrects the times of a capture to one clock
``bosh``               ``pcapctl bosh``: VMs of a BOSH deployment
``captures``           ``pcapctl captures``: the captures that run at the api
``cf``                 ``pcapctl cf``: a Cloud Foundry app
``cfplugin``           ``pcapctl cfplugin``: writes a cf plugin with another name
``completion``         ``pcapctl completion``: the completion scripts for shells
``explain``            ``pcapctl explain``: what went wrong in a capture
``extcap``             ``pcapctl extcap``: installs pcapctl's launcher for Wireshark
``flows``              ``pcapctl flows``: delays and losses between places
``hosts``              ``pcapctl hosts``: targets of the api's configuration
``man``                ``pcapctl man``: the man page, made from the --help texts
``record``             ``pcapctl record``: starts a recording
``recording``          ``pcapctl recording``: one recording
``recordings``         ``pcapctl recordings``: the list of recordings
``ssh``                ``pcapctl ssh``: hosts that ssh reaches
``status``             ``pcapctl status``: what the api can reach
``wireshark_profile``  ``pcapctl wireshark-profile``: a profile for Wireshark
=====================  ======================================================
"""
