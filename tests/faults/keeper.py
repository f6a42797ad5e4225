"""Starts a server again whenever it ended, as systemd would: `keeper.py UID GID COMMAND ...`, standard library only.

Told to end by SIGQUIT, it ends the server and itself. A UID of -1 keeps the account.
"""

import signal
import subprocess
import sys
import time

PAUSE_SECONDS = 0.5


def main(uid: int, gid: int, command: list[str]) -> int:
    identity = {} if uid < 0 else {"user": uid, "group": gid, "extra_groups": []}
    stopping = False
    server: subprocess.Popen[bytes] | None = None

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
        if server is not None:
            server.send_signal(signal.SIGQUIT)

    signal.signal(signal.SIGQUIT, stop)
    while not stopping:
        server = subprocess.Popen(command, **identity)  # type: ignore[call-overload]
        if stopping:  # it was told while the server was being started
            server.send_signal(signal.SIGQUIT)
        server.wait()
        time.sleep(0 if stopping else PAUSE_SECONDS)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
