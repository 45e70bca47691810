"""pcapctl as a capture interface of Wireshark (extcap): ``pcapctl extcap --install``.

Wireshark, tshark and other extcap programs start the same file repeatedly: for the
list of interfaces, for their arguments, and to capture (Wireshark Developer's
Guide, "Adding Capture Interfaces And Log Sources"; doc/extcap_example.py of Wireshark).

=================  ==========================================================
``calls``          parses Wireshark's command line.  Pure.
``configuration``  the answers: interfaces, arguments, values, controls.  Pure.
``parts``          what an interface consists of.  Pure.
``filtercheck``    finds errors in a capture filter.  Pure.
``control``        messages of the toolbar.  Pure.
``choices``        looks up the values of an argument: apps, recordings
``toolbar``        the toolbar and the error dialog during a capture
``command``        carries out a call and returns its exit status
``replay``         a recording in the place of a capture
``install``        installs a launcher in Wireshark's extcap directory
``profile``        a Wireshark profile for files with several places
=================  ==========================================================
"""
