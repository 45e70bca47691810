"""Recordings: captures whose sink is a store, so that they outlive their client.

``optional``
    opens them only if they are wanted.
``opening``
    makes the parts from the configuration.
``service``
    starts, ends and deletes recordings, and continues them after a restart.
``desk``
    what users ask, and who may.
``running``
    one that runs: its segments, its ring and its end.
``resuming``
    continues them after a restart.
``owners``
    what the owner of a recording may while it runs, and who else if its app was deleted.
``redialling``
    dials lost agents again.
``sweeping``
    deletes what is too old, and what no recording has.
``recorder``
    the sink of a capture: muxer, segments, store.
``segments``
    cuts the muxer's output into segments, each a whole file.  Pure.
``splice``
    one file out of segments.  Pure.
``fetching``
    reads such a file from the store.
``keeping``
    what of a recording is kept.  Pure.
``tee``
    the sink of a live capture that is recorded besides.
``clips``
    makes clips: packets around an event, kept as objects of their own.
``watching``, ``triggers``
    the events that make clips by themselves: a lost instance, a packet that matches a second filter.
``hooks``
    keys and requests of alert managers.  Pure.
``explaining``, ``explained``
    the findings of a clip: the thread that asks for them, and the process that finds them.
``values``
    recordings as JSON values.  Pure.
``index``
    the index of recordings, segments and clips, in a database.
``tables``
    its tables, and their rows as values.
``store``
    the objects, in a directory or an object store.

It needs the packages of ``pcapd[recordings]``, and is imported only if the configuration asks for it.
"""
