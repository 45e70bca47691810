"""Captures over ssh, on machines where no agent is installed.

The system's ssh (or ``cf ssh``) runs tcpdump on each host.  What arrives is converted to the
messages that an api would send.  So the rest of pcapctl (session, merge, outputs, reports) does
not differ.

============  =================================================================
farside       the command that captures on a host: one line of POSIX sh
said          what the far side says on stderr: its own lines, counters, problems
capture       one interface of one host: from bytes to messages, without I/O
hosts         hosts: their names, and the words that run ssh
cloudfoundry  instances of a Cloud Foundry app as hosts
names         host names from ssh's own files, for completion
asking        the user's terminal, where ssh asks
children      ssh as a child process, with its pipes and its heartbeat
running       runs a capture, or lists the interfaces
connection    all hosts of a capture, in place of a connection to an api
============  =================================================================
"""
