"""JSON Web Tokens (RFC 7519) of another issuer.

PyJWT's algorithms verify the signature, with keys that are prepared once; its ``decode`` prepares the key anew for each token,
which takes four times as long as everything else.  What is read here is the compact form (RFC 7515 section 5.2) and the claims.

Each key of the configuration is bound to one algorithm.  The algorithm in a token's header selects among the keys, but never
decides how a key is used: otherwise a public key in PEM could be used as an HMAC secret (algorithm confusion), and ``none`` would
turn verification off (RFC 8725 section 3.1).
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import get_default_algorithms
from jwt.exceptions import InvalidKeyError
from msgspec import UNSET, Struct, UnsetType
from twisted.internet.defer import Deferred, fail, succeed

from twisted_chat.errors import BadRequest, ChatError, TokenExpired, Unauthenticated
from twisted_chat.names import PERSON_NAME_MAX, person_name
from twisted_chat.users import Credential, User

ALGORITHMS = ("HS256", "RS256", "ES256", "EdDSA")
_VERIFIERS = {name: verifier for name, verifier in get_default_algorithms().items() if name in ALGORITHMS}

#: Seconds by which the issuer's clock may differ from the server's.
LEEWAY = 30.0
#: Characters.  A token has to fit into one header line.
TOKEN_MAX = 8_192
#: Bytes.  RFC 7518 section 3.2: an HMAC key must be as long as the hash.
SECRET_MIN = 32
#: Bits.  RFC 7518 section 3.3.
RSA_MIN = 2_048

_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
_SUBJECT = re.compile(r"[!-~]{1,128}")
#: Rights that a claim may give; others are ignored.
_RIGHTS = frozenset({"moderate", "metrics"})
_PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey


class JwtKey(Struct, frozen=True):
    """A key, and the one algorithm that it may be used with."""

    algorithm: str
    key: bytes | _PublicKey
    kid: str | None = None

    def __repr__(self) -> str:
        return f"<JwtKey {self.algorithm} {self.kid or ''}>"


def read_key(algorithm: str, text: str, kid: str | None = None) -> JwtKey:
    """The key in ``text``: the secret itself for HS256, else a public key in PEM; :class:`BadRequest` tells what is wrong."""
    if algorithm not in ALGORITHMS:
        raise BadRequest(f"algorithm: {algorithm!a} is not one of {', '.join(ALGORITHMS)}")
    if algorithm == "HS256":
        return JwtKey(algorithm, _read_secret(text), kid)
    if "PRIVATE KEY" in text:
        raise BadRequest(f"key: {algorithm} takes the public key, and this is a private key, which only the issuer should have")
    try:
        key = load_pem_public_key(text.encode())
    except Exception:
        raise BadRequest(f"key: not a public key in PEM, which {algorithm} takes") from None
    return JwtKey(algorithm, _checked_key(algorithm, key), kid)


def _read_secret(text: str) -> bytes:
    if "-----BEGIN" in text:
        raise BadRequest("key: HS256 takes a shared secret, and this is PEM; is it a key for RS256, ES256 or EdDSA?")
    secret = text.encode()
    if len(secret) < SECRET_MIN:
        raise BadRequest(f"key: HS256 takes a secret of at least {SECRET_MIN} bytes, this has {len(secret)}")
    try:
        prepared: bytes = _VERIFIERS["HS256"].prepare_key(secret)
    except InvalidKeyError as error:
        raise BadRequest(f"key: {error}") from None
    return prepared


def _checked_key(algorithm: str, key: object) -> _PublicKey:
    match algorithm, key:
        case "RS256", RSAPublicKey():
            if key.key_size < RSA_MIN:
                raise BadRequest(f"key: RS256 takes at least {RSA_MIN} bits, this has {key.key_size}")
            return key
        case "ES256", EllipticCurvePublicKey(curve=SECP256R1()):
            return key
        case "EdDSA", Ed25519PublicKey() | Ed448PublicKey():
            return key
    raise BadRequest(f"key: this public key is of another kind than {algorithm} takes")


class JsonWebTokens:
    """Authenticates the bearer of a JWT: ``sub`` gives the user's id, ``name`` the name, ``rooms`` and ``rights`` what they may do.

    :param seconds: the time, in seconds since 1970.
    :param issuer: the required ``iss``; None: any.
    :param audience: the required member of ``aud``; None: a token with an ``aud`` is refused, as it is meant for another service.
    """

    def __init__(
        self, keys: Sequence[JwtKey], seconds: Callable[[], float], *, issuer: str | None = None, audience: str | None = None
    ) -> None:
        self._keys = tuple(keys)
        self._seconds = seconds
        self._issuer = issuer
        self._audience = audience

    def identify(self, credential: Credential) -> Deferred[User | None]:
        if not _JWT.fullmatch(credential.token):
            return succeed(None)
        try:
            return succeed(self._user(self._claims(credential.token)))
        except ChatError as error:
            return fail(error)

    def _claims(self, token: str) -> Mapping[str, Any]:
        if len(token) > TOKEN_MAX:
            raise Unauthenticated(f"token: longer than {TOKEN_MAX} characters")
        header = _read_header(token)
        if header.crit is not UNSET:
            raise Unauthenticated("token: requires extensions that this server does not have (crit)")
        keys = [key for key in self._keys if key.algorithm == header.alg]
        named = [key for key in keys if key.kid is not None and key.kid == header.kid]
        signed, _, last = token.rpartition(".")
        signature = _segment(last)
        for key in named or [key for key in keys if key.kid is None or header.kid is None]:
            if _VERIFIERS[key.algorithm].verify(signed.encode(), key.key, signature):
                claims = _read_claims(signed.partition(".")[2])
                self._check_issuer(claims)
                return claims
        raise Unauthenticated("token: not signed by a key that this server trusts")

    def _check_issuer(self, claims: Mapping[str, Any]) -> None:
        """Refuse a token of another issuer, or for another service (RFC 7519 sections 4.1.1 and 4.1.3)."""
        if self._issuer is not None and claims.get("iss") != self._issuer:
            raise Unauthenticated("token: not of the issuer that this server trusts (iss)")
        found = claims.get("aud") or []
        audience = [found] if isinstance(found, str) else found
        if not isinstance(audience, list) or not all(isinstance(entry, str) for entry in audience):
            raise Unauthenticated("token: aud must be a text or a list of texts")
        if self._audience is None and audience:
            raise Unauthenticated("token: issued for another service (aud)")
        if self._audience is not None and self._audience not in audience:
            raise Unauthenticated("token: not issued for this server (aud)")

    def _user(self, claims: Mapping[str, Any]) -> User:
        now = self._seconds()
        expires = _time(claims, "exp")
        if expires + LEEWAY <= now:
            raise TokenExpired("token: expired")
        if "nbf" in claims and _time(claims, "nbf") - LEEWAY > now:
            raise Unauthenticated("token: not valid yet (nbf)")
        subject = claims["sub"]
        if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
            raise Unauthenticated("token: sub must be 1 to 128 visible ASCII characters")
        return User(
            id="u" + subject,
            name=_name(claims, subject),
            expires=expires + LEEWAY,
            rights=frozenset(_strings(claims, "rights")) & _RIGHTS,
            rooms=_strings(claims, "rooms") if "rooms" in claims else None,
        )


class _Header(Struct, frozen=True):
    """The part of a token's header that selects a key (RFC 7515 section 4.1)."""

    alg: str = ""
    kid: str | None = None
    crit: msgspec.Raw | UnsetType = UNSET


def _read_header(token: str) -> _Header:
    """The header, unverified."""
    try:
        return msgspec.json.decode(_segment(token.partition(".")[0]), type=_Header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Unauthenticated("token: not a JWT") from None


def _read_claims(segment: str) -> Mapping[str, Any]:
    """The claims of a token whose signature has been verified; ``exp`` and ``sub`` are among them."""
    try:
        claims: dict[str, Any] = msgspec.json.decode(_segment(segment), type=dict)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Unauthenticated("token: its claims are not a JSON object") from None
    for claim in ("exp", "sub"):
        if claim not in claims:
            raise Unauthenticated(f"token: {claim} is missing")
    return claims


def _segment(text: str) -> bytes:
    """The bytes of one part of the token; another way of writing the same bytes is refused, so that a token has one form."""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        data = b""
    if urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        raise Unauthenticated("token: not a JWT")
    return data


def _time(claims: Mapping[str, Any], claim: str) -> float:
    value = claims[claim]
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e12 < value < 1e12:
        raise Unauthenticated(f"token: {claim} must be a time in seconds")
    return float(value)


def _name(claims: Mapping[str, Any], subject: str) -> str:
    for claim in ("name", "preferred_username"):
        if isinstance(claims.get(claim), str):
            try:
                return person_name(claims[claim], claim)
            except BadRequest as error:
                raise Unauthenticated(f"token: {error.message}") from None
    return subject[:PERSON_NAME_MAX]


def _strings(claims: Mapping[str, Any], claim: str) -> tuple[str, ...]:
    """A list of strings.  A malformed one is refused, because ignoring it could allow what it was meant to forbid."""
    value = claims.get(claim, [])
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise Unauthenticated(f"token: {claim} must be a list of strings")
    return tuple(value)
