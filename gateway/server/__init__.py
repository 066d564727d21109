"""gRPC on three listeners: verification, federation, admin.

Each listener is a server of its own with its own threads, so that a flood on one starves no other. Every call
arrives over mutual TLS; who calls is read from the certificate's URI, and what it may ask is decided by the
registration for that identity, never by anything in the message.

What goes wrong, and calls that do not get going, are ``guard``'s business. One module a service; ``listener`` puts them
on a port.
"""
