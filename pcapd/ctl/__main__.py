"""``python -m pcapd.ctl``."""

from pcapd.ctl.main import main

if __name__ == "__main__":
    main()
