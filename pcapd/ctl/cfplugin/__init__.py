"""pcapctl as a cf CLI plugin: ``cf install-plugin ./pcapctl``, then ``cf pcap APP``.

The cf CLI starts a plugin with the port of its RPC server and the user's arguments.
The protocol is Go's net/rpc with encoding/gob.

============  ==============================================================
``gob``       encodes and decodes Go's gob.  Pure.
``calls``     one call of net/rpc: its request and its reply.  Pure.
``metadata``  the plugin's metadata, from the options of ``pcapctl cf``.  Pure.
``cli``       requests the login from the cf CLI over TCP
``command``   carries out a plugin call and returns its exit status
============  ==============================================================
"""
