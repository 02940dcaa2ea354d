"""A certificate authority made for one run, so that the provider's leg can be TLS as it is in real life.

Needs the package `trustme`. The engine trusts the authority through `SSL_CERT_FILE`, which Python's default context obeys;
nothing is written outside a temporary directory.
"""

import ssl
from pathlib import Path


def make_certificate(directory: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context for `localhost`, and the file with the authority's certificate.

    Raises:
        RuntimeError: `trustme` is not installed.
    """
    try:
        import trustme  # noqa: PLC0415  optional
    except ImportError:
        message = "TLS needs the package trustme: pip install 'media-engine[bench]'"
        raise RuntimeError(message) from None
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    authority_path = directory / "authority.pem"
    authority.cert_pem.write_to_path(str(authority_path))
    return context, authority_path
