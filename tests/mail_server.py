"""A mail server on loopback that keeps what it gets."""

from __future__ import annotations

import email
import email.policy
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage


@dataclass
class Mailbox:
    """Where the server listens, what it got, and with which code it answers whom a mail is for, if not 250."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    refuses: int = 0


@contextmanager
def mail_server() -> Iterator[Mailbox]:
    """Run one: as much of SMTP as mails need."""
    box = Mailbox()

    class Talk(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.say("220 here")
            while words := self.rfile.readline().decode().strip():
                verb = words.split()[0].upper()
                if verb == "DATA":
                    self.say("354 go on")
                    box.mails.append(self.mail())
                elif verb == "RCPT" and box.refuses:
                    self.say(f"{box.refuses} a word that is nobody's business")
                    continue
                self.say("221 bye" if verb == "QUIT" else "250 fine")
                if verb == "QUIT":
                    return

        def mail(self) -> EmailMessage:
            lines = []
            while (read := self.rfile.readline()) != b".\r\n":
                lines.append(read.removeprefix(b"."))
            return email.message_from_bytes(b"".join(lines), policy=email.policy.default)  # type: ignore[return-value]

        def say(self, words: str) -> None:
            self.wfile.write(f"{words}\r\n".encode())

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Talk) as server:
        box.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield box
        finally:
            server.shutdown()
            thread.join()
