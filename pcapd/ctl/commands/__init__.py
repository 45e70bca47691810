"""The commands of ``pcapctl``: one module for each, and what they share.

=====================  ======================================================
``registry``           which commands there are: one line for each
``arguments``          the options that commands share, as click reads them
``capturing``          from the options of a capture to its exit status
``align``              ``pcapctl align``: a file whose interfaces all have one clock
``bosh``               ``pcapctl bosh``: VMs of a BOSH deployment
``cf``                 ``pcapctl cf``: a Cloud Foundry app
``cfplugin``           ``pcapctl cfplugin``: a plugin whose command has another name
``completion``         ``pcapctl completion``: the scripts for shells
``explain``            ``pcapctl explain``: what went wrong in a capture
``extcap``             ``pcapctl extcap``: puts a launcher where Wireshark looks
``flows``              ``pcapctl flows``: where packets were seen, and what was lost between
``hosts``              ``pcapctl hosts``: targets of the api's configuration
``man``                ``pcapctl man``: the man page, from what --help says
``status``             ``pcapctl status``: what the api can reach
``wireshark_profile``  ``pcapctl wireshark-profile``: a profile for files with several places
=====================  ======================================================
"""
