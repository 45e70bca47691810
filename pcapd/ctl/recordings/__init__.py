"""Recordings: captures that go on at the api without a client (docs/recordings.rst).

==============  ==================================================================
``calls``       the requests about recordings, and their answers
``ordering``    what is sent to start a recording.  Pure.
``moments``     the times that users write.  Pure.
``text``        recordings as lines of text.  Pure.
``following``   whole blocks of what is fetched, and where it goes on.  Pure.
``answers``     one answer with packets, piece by piece
``fetching``    fetches a recording into a file, however often it is cut
``progress``    shows how far a fetch is
``saving``      ``pcapctl recording fetch`` from its options to the exit status
==============  ==================================================================
"""
