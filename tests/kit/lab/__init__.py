"""A lab of hosts on one machine, for tests and benchmarks; `demo` has the hosts and the daemons.

``generator``
    numbered and time-stamped UDP packets at a chosen rate, from a C program.
``containers``
    a Diego cell: runc containers, silk's wires, the metadata store.
``callers``
    the api's part of a conversation with an agent, played by a test.
``readers``
    tshark, capinfos and tcpdump as independent readers of what we wrote.
``terminals``
    a terminal that a test reads, resizes and closes.
``attacks``
    floods and other attacks on a daemon, by many peers.
``aborter``, ``leavers``
    clients that leave captures at random, or before the answer.
``faulty``
    a wire that loses, delays, repeats, damages or reorders packets.
``forwarder``, ``proxies``
    a TCP forwarder, and real proxies: tinyproxy, and OpenSSH's server and client.
``objects``
    an S3 server, a proxy before it that is slow or fails, and Azurite.
``nginx``
    a real nginx in front of apis.
``postgres``
    a PostgreSQL server that is restarted, killed or cut off.
``programs``
    programs that Go or Node.js install.
``admitters``
    processes that admit captures in one database at once.
``killed``
    a daemon that is killed at a chosen step.
``workers``
    the workers of an api: their processes and metrics, and captures that each of them has.
``sshhosts``
    hosts with a real ssh server, and a user at a desk.
``inside``
    sockets of the test's process in a namespace.
``shifted``
    tcpdump on a host whose clock is wrong.
``clock``
    a wall clock of its own for one process.
``interfacedrops``
    pcapd with an interface's rx_dropped counted as packets that it lost.
``memory``
    the memory that a function takes.
``systemd``
    a real systemd, in namespaces of its own, that runs our units.
``machines``
    fresh machines with a network and a systemd of their own, and nothing of pcapd.
``systemcalls``
    a command below systemd's system call filter, without systemd.

Nothing is imported here, so that each runs as ``python -m tests.kit.lab.NAME``.
"""
