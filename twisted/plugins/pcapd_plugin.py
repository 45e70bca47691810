"""Registers pcapd with twistd.  Only names: every twistd command imports this."""

from twisted.application.service import ServiceMaker

pcapd = ServiceMaker(
    "pcapd",
    "pcapd.tap",
    "Capture network traffic remotely: the agent or the api",
    "pcapd",
)
