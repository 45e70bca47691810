"""pcapctl as a capture interface of Wireshark (extcap): ``pcapctl extcap --install``.

Wireshark, tshark and whatever else speaks extcap start the same file again and again:
for the list of interfaces, for their arguments, and to capture (Wireshark Developer's
Guide, "Adding Capture Interfaces And Log Sources"; doc/extcap_example.py of Wireshark).

=================  ==========================================================
``calls``          what Wireshark calls us with.  Pure.
``configuration``  what it is answered: interfaces, arguments, values, controls.  Pure.
``control``        messages between the toolbar and us.  Pure.
``choices``        values of an argument that are looked up: apps, instances
``toolbar``        the toolbar and the dialog over their pipes, while a capture runs
``command``        from a call to an exit status
``install``        puts a launcher where Wireshark looks
``profile``        a profile of Wireshark for files with several places
=================  ==========================================================
"""
