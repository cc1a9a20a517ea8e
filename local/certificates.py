"""Makes the certificate authority and the certificates of a local cluster; every key stays in its private folder."""

import base64 as encoding
import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from local.process import write

# A cluster lives as long as its stack; ten years outlast it, so nothing here renews.
LIFETIME = datetime.timedelta(days=3650)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH

# File name, common name, organisation (Kubernetes reads it as a group), uses.
LEAVES: tuple[tuple[str, str, str | None, tuple[x509.ObjectIdentifier, ...]], ...] = (
    ("etcd", "etcd", None, (SERVER, CLIENT)),
    ("etcd-client", "kube-apiserver", None, (CLIENT,)),
    ("apiserver", "kube-apiserver", None, (SERVER,)),
    ("admin", "admin", "system:masters", (CLIENT,)),
)


def base64(text: str) -> str:
    """`text` as a kubeconfig holds it."""
    return encoding.b64encode(text.encode()).decode()


def private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """A key in unencrypted PKCS #8 PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def subject(common: str, organisation: str | None) -> x509.Name:
    """A distinguished name of one or two parts."""
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if organisation:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
    return x509.Name(parts)


def builder(name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    """What all certificates here share. Validity begins an hour ago: clocks of virtual machines step back."""
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
    )


def make(folder: Path) -> None:
    """Write authority, leaf certificates and the service-account key pair into `folder`, made here with mode 0700."""
    folder.mkdir(mode=0o700)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = subject("kata-nodes local cluster", None)
    authority = (
        builder(authority_name, authority_name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    write(folder / "ca.crt", authority.public_bytes(Encoding.PEM))
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    for file, common, organisation, uses in LEAVES:
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = (
            builder(subject(common, organisation), authority_name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        )
        if SERVER in uses:
            leaf = leaf.add_extension(names, critical=False)
        certificate = leaf.sign(authority_key, hashes.SHA256())
        write(folder / f"{file}.crt", certificate.public_bytes(Encoding.PEM))
        write(folder / f"{file}.key", private_pem(key))

    tokens = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    write(folder / "service-account.key", private_pem(tokens))
    public = tokens.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write(folder / "service-account.pub", public)


def usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """Key usage of an authority or of a leaf."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
