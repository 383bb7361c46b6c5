"""A customer's network: a forward proxy that counts and may ask for a password, and W&B behind TLS
with a certificate of the customer's own authority.
"""

import asyncio
import base64
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.dev.sandbox.wandb.wandb_fixture import WandbServer, wandb_server

CORP = "wandb.corp.test"
"""A name that only the proxy can resolve."""
_DAY = datetime.timedelta(days=1)


@dataclass
class Proxy:
    """`tunnels` and `forwards` are the places that it was asked for, in order."""

    url: str = ""
    login: str = ""
    """`user:password` that it wants, empty for none."""
    status: int = 0
    """What it answers in place of a tunnel, 0 for the tunnel."""
    tunnels: list[str] = field(default_factory=list)
    forwards: list[str] = field(default_factory=list)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split("\r\n", 1)[0].split(" ")
        wanted = base64.b64encode(self.login.encode()).decode()
        if self.login and f"Proxy-Authorization: Basic {wanted}" not in head:
            await _answer(writer, 407)
        elif self.status:
            await _answer(writer, self.status)
        elif method == "CONNECT":
            self.tunnels.append(target)
            await self._tunnel(target, reader, writer)
        else:
            self.forwards.append(target)
            await _answer(writer, 204)
        writer.close()

    async def _tunnel(
        self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        # Every name leads to this machine, also those that nobody but the proxy can resolve.
        inner, outer = await asyncio.open_connection("127.0.0.1", int(target.rpartition(":")[2]))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await _both(reader, outer, inner, writer)


async def _answer(writer: asyncio.StreamWriter, status: int) -> None:
    writer.write(f"HTTP/1.1 {status} Said\r\nContent-Length: 0\r\n\r\n".encode())
    await writer.drain()


async def _both(
    left: asyncio.StreamReader,
    to_left: asyncio.StreamWriter,
    right: asyncio.StreamReader,
    to_right: asyncio.StreamWriter,
) -> None:
    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            target.close()

    await asyncio.gather(pump(left, to_left), pump(right, to_right))


@asynccontextmanager
async def proxy(**more: object) -> AsyncIterator[Proxy]:
    """Run a proxy on a free port."""
    made = Proxy(**more)  # type: ignore[arg-type]
    server = await asyncio.start_server(made.handle, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield made


@dataclass(frozen=True)
class Network:
    """W&B behind TLS: by its own address, and by a name that only a proxy can resolve."""

    server: WandbServer
    bundle: Path
    """PEM file of the authority that its certificate is from."""

    @property
    def url(self) -> str:
        return f"https://localhost:{self.server.tls_port}"

    @property
    def corp_url(self) -> str:
        return f"https://{CORP}:{self.server.tls_port}"


@asynccontextmanager
async def network(folder: Path) -> AsyncIterator[Network]:
    """Run W&B behind TLS."""
    bundle, chain = certificates(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain)
    async with wandb_server(context) as server:
        yield Network(server, bundle)


def certificates(folder: Path) -> tuple[Path, Path]:
    """Make an authority and a certificate for localhost; return the PEM files of both."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the customer's authority")])
    ca = _certificate(ca_name, ca_name, ca_key, ca_key, is_ca=True)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    own = _certificate(name, ca_name, key, ca_key, is_ca=False)
    bundle, chain = folder / "bundle.pem", folder / "chain.pem"
    pem = serialization.Encoding.PEM
    bundle.write_bytes(ca.public_bytes(pem))
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain.write_bytes(private + own.public_bytes(pem))
    return bundle, chain


def _certificate(
    name: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    ca_key: ec.EllipticCurvePrivateKey,
    *,
    is_ca: bool,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    names = [
        x509.DNSName("localhost"),
        x509.DNSName(CORP),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(not is_ca, False, False, False, False, is_ca, is_ca, False, False),
            critical=True,
        )
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )
