"""pcapctl: the client that asks the api for a capture and writes one file.

Standard library, wsproto, click, rich and PyYAML; runs on Python 3.9 and needs no
compiled module.

==============  ==============================================================
``main``        reads the command line and exits with a status
``options``     the options that all capture commands share
``onefile``     the one-file client that runs, and its SHA-256
``run``         one capture from its options to its exit status: the loop
``stopping``    signals, and the exit of the program that started pcapctl
``commands``    one module for each command
``login``       the logins of the cf and the BOSH CLI
``ssh``         captures over ssh, without agents and api
``stream``      the connection to the api, and the capture it carries
``sinks``       where packets go: files, readers, lines
``display``     what the user sees
``explaining``  explains a capture while it runs
``recordings``  captures that go on at the api without a client
``extcap``      capture interfaces for Wireshark
``cfplugin``    the cf CLI plugin
==============  ==============================================================
"""
