"""``python -m pcapd``."""

from pcapd.main import main

main()
