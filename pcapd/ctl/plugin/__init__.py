"""pcapctl as a plugin of the cf CLI: ``cf install-plugin ./pcapctl``, then ``cf pcap APP``.

The cf CLI starts a plugin with the port of an RPC server of its own, and what the
user typed.  It speaks Go's net/rpc with encoding/gob.

============  ==============================================================
``gob``       Go's encoding: values and bytes.  Pure.
``calls``     one call of net/rpc: its request, and its reply as it comes.  Pure.
``metadata``  what the plugin says of itself, from the options of ``pcapctl cf``.  Pure.
``cli``       the cf CLI over TCP: who is logged in, where
``install``   ``pcapctl cfplugin``: a plugin whose command has another name
``command``   from the arguments of the cf CLI to an exit status
============  ==============================================================
"""
