"""Tells twistd of pcapd.  Only names: this is imported for every twistd command."""

from twisted.application.service import ServiceMaker

pcapd = ServiceMaker(
    "pcapd",
    "pcapd.tap",
    "Capture network traffic remotely: the agent or the api",
    "pcapd",
)
