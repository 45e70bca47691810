"""pcapctl: the client that asks the api for a capture and writes one file.

Standard library, wsproto, click, rich and PyYAML; runs on Python 3.9 and needs no
compiled module.

==============  ======================================================="""
