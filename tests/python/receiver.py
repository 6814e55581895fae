"""Receives webhooks: says its port, then one JSON line for each request; refuses the first."""

import base64
import hashlib
import hmac
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

KEY = base64.b64decode(sys.argv[1])


class Receiver(BaseHTTPRequestHandler):
    count = 0

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        name, stamp = self.headers["webhook-id"], self.headers["webhook-timestamp"]
        signed = hmac.new(KEY, f"{name}.{stamp}.{body}".encode(), hashlib.sha256).digest()
        good = self.headers["webhook-signature"] == "v1," + base64.b64encode(signed).decode()
        Receiver.count += 1
        status = 500 if Receiver.count == 1 else 204
        saw = {"id": name, "good": good, "status": status, "body": json.loads(body)}
        print(json.dumps(saw), flush=True)
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_port, flush=True)
server.serve_forever()
