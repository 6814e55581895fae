"""An agent's connection from before anybody governs it, which says a word twice a second until it ends."""

import socket
import sys
import time

with socket.create_connection(("10.0.2.2", int(sys.argv[1])), timeout=10) as connection:
    while True:
        connection.sendall(b"older")
        time.sleep(0.5)
