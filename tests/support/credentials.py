"""Certificates, and what a third party's package can contribute to credentials."""

from __future__ import annotations

from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization

from otlp_receiver import OtlpReceiver, TlsFiles


class Authority:
    """A certificate authority with a server's certificate and a client's, as PEM files.

    Args:
        folder: where the files are.
        names: of the server.
    """

    def __init__(self, folder: Path, *names: str) -> None:
        folder.mkdir(exist_ok=True)
        authority = trustme.CA()
        server = authority.issue_cert(*(names or ("127.0.0.1", "localhost")))
        client = authority.issue_cert("client.example")
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(self.ca)
        self.server_certificate, self.server_key = folder / "server.pem", folder / "server.key"
        server.cert_chain_pems[0].write_to_path(self.server_certificate)
        server.private_key_pem.write_to_path(self.server_key)
        self.certificate, self.key = folder / "client.pem", folder / "client.key"
        client.cert_chain_pems[0].write_to_path(self.certificate)
        client.private_key_pem.write_to_path(self.key)
        self.combined = folder / "combined.pem"
        client.private_key_and_cert_chain_pem.write_to_path(self.combined)
        self.encrypted_key = folder / "encrypted.key"
        key = serialization.load_pem_private_key(client.private_key_pem.bytes(), None)
        self.encrypted_key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
        )

    def server(self, *, demand_client: bool = False) -> OtlpReceiver:
        """Return a receiver with TLS."""
        files = TlsFiles(self.server_certificate, self.server_key, self.ca if demand_client else None)
        return OtlpReceiver(tls=files)


PROVIDERS = """
    import os

    def credentials():
        import grpc
        with open(os.environ["VENDOR_CA"], "rb") as file:
            return grpc.ssl_channel_credentials(file.read())

    def session():
        import requests
        session = requests.Session()
        session.headers["x-vendor"] = "token"
        return session

    def wrong():
        return 1

    def broken():
        raise RuntimeError("no token")
    """
"""The module ``vendor_stuff``."""

PROVIDER_POINTS = """
    [opentelemetry_otlp_credential_provider]
    vendor_grpc = vendor_stuff:credentials
    vendor_http = vendor_stuff:session
    wrong = vendor_stuff:wrong
    broken = vendor_stuff:broken
    """
"""Its entry points."""
