"""What api processes share: limits, running captures and the index of recordings, in a database.

``database``
    the database: its thread, what happens when it is silent, its lock and clock.
``connecting``
    connections to SQLite and PostgreSQL: TLS, timeouts, and what their errors say.
``tables``
    the tables of holders and captures.
``rules``
    who holds what, and when a limit is reached.  Pure.
``holding``
    this process as a holder: its lease, and the captures that count for it.
``opening``
    makes the parts from the configuration.
``optional``
    opens these parts only if they are wanted.
``threads``
    threads for databases and stores.

It needs the packages of ``pcapd[recordings]``, and is imported only if the configuration asks for it.
"""
