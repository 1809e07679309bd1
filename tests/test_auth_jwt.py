"""JWT: only the issuer's own signature, only for us, only in time."""

from __future__ import annotations

import base64
import hmac
import json
from base64 import urlsafe_b64encode
from random import Random
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.auth.jwt import LEEWAY, JsonWebTokens, JwtKey, read_key
from twisted_chat.errors import BadRequest, TokenExpired, Unauthenticated
from twisted_chat.users import Credential, Source, User

NOW = 1_700_000_000
SECRET = "a shared secret of 32 characters"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
CLAIMS: dict[str, Any] = {"sub": "7", "name": "Alice", "exp": NOW + 60}


def pem(key: Any) -> str:
    public: bytes = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return public.decode()


def sign(key: Any = SECRET, algorithm: str = "HS256", header: dict[str, Any] | None = None, **claims: Any) -> str:
    merged = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}
    return jwt.encode(merged, key, algorithm, headers=header)


def raw(header: dict[str, Any], claims: dict[str, Any], signature: str = "") -> str:
    parts = [urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)]
    return ".".join([*parts, signature])


class JwtCase(SynchronousTestCase):
    now = float(NOW)

    def ways(self, *keys: JwtKey, **kw: Any) -> JsonWebTokens:
        return JsonWebTokens(keys or (read_key("HS256", SECRET),), lambda: self.now, **kw)

    def accepted(self, token: str, ways: JsonWebTokens | None = None) -> User:
        user = self.successResultOf((ways or self.ways()).identify(Credential(token, Source.HEADER)))
        assert user is not None
        return user

    def refused(self, token: str, ways: JsonWebTokens | None = None, error: type[Exception] = Unauthenticated) -> str:
        failure = self.failureResultOf((ways or self.ways()).identify(Credential(token, Source.HEADER)), error)
        return str(failure.value)


class JwtTests(JwtCase):
    def test_person(self) -> None:
        """The claims say who it is and what they may."""
        user = self.accepted(sign(rooms=["lobby", "live.*"], rights=["moderate", "fly"]))
        self.assertEqual(
            user,
            User(
                id="u7",
                name="Alice",
                expires=NOW + 60 + LEEWAY,
                rights=frozenset({"moderate"}),
                rooms=("lobby", "live.*"),
            ),
        )

    def test_algorithms(self) -> None:
        """Tokens of each public-key algorithm are accepted."""
        for algorithm, key in (("RS256", RSA_KEY), ("ES256", EC_KEY), ("EdDSA", ED_KEY)):
            with self.subTest(algorithm):
                self.assertEqual(self.accepted(sign(key, algorithm), self.ways(read_key(algorithm, pem(key)))).id, "u7")

    def test_none(self) -> None:
        """An unsigned token is nobody's, however it spells it."""
        for name in ("none", "None", "NONE", "nOnE", ""):
            self.refused(raw({"alg": name, "typ": "JWT"}, CLAIMS))
        self.refused(raw({"typ": "JWT"}, CLAIMS))

    def test_confusion(self) -> None:
        """A public key is no HMAC secret: whoever knows it could sign."""
        public = pem(RSA_KEY)
        head = raw({"alg": "HS256", "typ": "JWT"}, CLAIMS)[:-1]
        mac = hmac.digest(public.encode(), head.encode(), "sha256")
        forged = head + "." + urlsafe_b64encode(mac).rstrip(b"=").decode()

        self.refused(forged, self.ways(read_key("RS256", public)))
        self.refused(forged, self.ways(read_key("RS256", public), read_key("HS256", SECRET)))

    def test_each_key_has_its_algorithm(self) -> None:
        """A valid signature by another algorithm of the same kind of key is refused."""
        self.refused(sign(RSA_KEY, "RS512"), self.ways(read_key("RS256", pem(RSA_KEY))))
        self.refused(sign(RSA_KEY, "PS256"), self.ways(read_key("RS256", pem(RSA_KEY))))
        self.refused(sign("c" * 64, "HS512"), self.ways(read_key("HS256", "c" * 64)))

    def test_wrong_signature(self) -> None:
        """A signature by another secret, a changed one and an empty one are refused."""
        self.refused(sign("another secret of 32 characters!"))
        token = sign()

        self.refused(token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB"))
        self.refused(token.rpartition(".")[0] + ".")

    def test_keys_are_changed(self) -> None:
        """Two keys of one algorithm live side by side; the name of a key chooses."""
        old, new = read_key("HS256", SECRET, "old"), read_key("HS256", "b" * 32, "new")
        both = self.ways(old, new)

        self.accepted(sign("b" * 32), both)
        self.accepted(sign("b" * 32, header={"kid": "new"}), both)
        self.refused(sign("b" * 32, header={"kid": "old"}), both)
        self.refused(sign("b" * 32, header={"kid": "unknown"}), both)

    def test_expiry(self) -> None:
        """``exp`` has a leeway for clocks that differ, and not a second more."""
        token = sign(exp=NOW)
        self.now = NOW + LEEWAY - 1
        self.accepted(token)
        self.now = NOW + LEEWAY

        self.refused(token, error=TokenExpired)

    def test_must_expire(self) -> None:
        """A JWT cannot be revoked, so one that never ends would be for ever."""
        self.refused(sign(exp=None))

    def test_not_yet(self) -> None:
        """A token before its ``nbf`` is refused, with the leeway for clocks."""
        self.accepted(sign(nbf=NOW + LEEWAY))
        self.assertIn("nbf", self.refused(sign(nbf=NOW + LEEWAY + 1)))

    def test_times_are_numbers(self) -> None:
        """``exp`` and ``nbf`` must be numbers in the range of times."""
        values: tuple[object, ...] = ("tomorrow", True, [], 1e300)
        for value in values:
            self.refused(raw_signed({**CLAIMS, "exp": value}))
            self.refused(raw_signed({**CLAIMS, "nbf": value}))

    def test_issued_in_the_future(self) -> None:
        """``iat`` does not make a token invalid, even in the future."""
        self.accepted(sign(iat=NOW + 10_000))

    def test_audience(self) -> None:
        """With an audience the token must name it; without one a token with ``aud`` is refused."""
        ours = self.ways(audience="chat")

        self.accepted(sign(aud="chat"), ours)
        self.accepted(sign(aud=["mail", "chat"]), ours)
        self.refused(sign(aud="mail"), ours)
        self.refused(sign(), ours)
        self.refused(sign(aud="mail"))

    def test_issuer(self) -> None:
        """With an issuer the token must have exactly it."""
        ours = self.ways(issuer="https://id.test")

        self.accepted(sign(iss="https://id.test"), ours)
        self.refused(sign(iss="https://id.test/"), ours)
        self.refused(sign(), ours)

    def test_subject(self) -> None:
        """The subject becomes the user's id behind ``u``; a missing or unsuitable one is refused."""
        self.assertEqual(self.accepted(sign(sub="auth0|5f7c")).id, "uauth0|5f7c")
        for subject in (None, "", "a b", "a\n", "\u00e9", "x" * 129):
            self.refused(sign(sub=subject))

    def test_names(self) -> None:
        """The name is ``name``, else ``preferred_username``, else the subject, cut to the longest name."""
        self.assertEqual(self.accepted(sign(name=None, preferred_username="al")).name, "al")
        self.assertEqual(self.accepted(sign(name=None)).name, "7")
        self.assertEqual(self.accepted(sign(name=None, sub="x" * 100)).name, "x" * 64)
        self.assertIn("name", self.refused(sign(name="a\u202eb")))

    def test_malformed_restriction(self) -> None:
        """A list of rooms that cannot be read must not mean: all rooms."""
        malformed: tuple[object, ...] = ("lobby", [1], {}, None)
        for rooms in malformed:
            self.refused(raw_signed({**CLAIMS, "rooms": rooms}))
        self.assertEqual(self.accepted(sign(rooms=[])).rooms, ())

    def test_critical_extensions(self) -> None:
        """A token with a critical extension is refused, because none is supported."""
        self.refused(sign(header={"crit": ["b64"], "b64": False}))

    def test_another_kind(self) -> None:
        """A token that does not look like a JWT is left to other ways to authenticate."""
        for token in ("tc_" + "A" * 43, "abc", "a.b", "a.b.c.d", "a.b.c\n"):
            self.assertIsNone(self.successResultOf(self.ways().identify(Credential(token, Source.HEADER))))

    def test_garbage(self) -> None:
        """A token in the form of a JWT that cannot be decoded is refused."""
        for token in ("a.b.c", "e30.e30.", raw({"alg": "HS256"}, {}), raw({"alg": ["HS256"]}, CLAIMS), "A" * 9_000 + ".b.c"):
            self.refused(token)

    def test_deep_header(self) -> None:
        """A header of brackets as deep as a token may be is refused like any other garbage."""
        for field in ("alg", "crit", "x"):
            head = f'{{"{field}":' + "[" * 5_000 + "]" * 100
            self.refused(base64.urlsafe_b64encode(head.encode()).decode().rstrip("=") + ".e30.")

    def test_header_keys_are_not_used(self) -> None:
        """A key inside the token proves nothing about the token."""
        self.refused(sign("another secret of 32 characters!", header={"jwk": {"kty": "oct", "k": "AAAA"}, "jku": "http://e/"}))


def raw_signed(claims: Any) -> str:
    return jwt.PyJWS().encode(json.dumps(claims).encode(), SECRET, "HS256", headers={"typ": "JWT"})


class SameTests(JwtCase):
    """The compact form and the claims are read as PyJWT reads them."""

    def by_pyjwt(self, token: str, audience: str | None) -> bool:
        options: Any = {"require": ["exp", "sub"], "verify_exp": False, "verify_nbf": False, "verify_iat": False}
        try:
            jwt.decode(token, SECRET, ["HS256"], options=options, audience=audience, issuer=None)
        except jwt.InvalidTokenError:
            return False
        return True

    def by_us(self, token: str, audience: str | None) -> bool:
        results: list[Any] = []
        self.ways(audience=audience).identify(Credential(token, Source.HEADER)).addBoth(results.append)
        return isinstance(results[0], User)

    def assertSame(self, token: str, audience: str | None = None) -> None:
        self.assertEqual(self.by_us(token, audience), self.by_pyjwt(token, audience), token)

    def test_changed_tokens(self) -> None:
        """Each character of a token exchanged, left out or doubled."""
        random = Random(7)
        token = sign()

        for place, old in enumerate(token):
            new = random.choice("ABCXYZabcxyz0189-_.=")
            for changed in (new, "", old + old):
                self.assertSame(token[:place] + changed + token[place + 1 :])

    def test_claims(self) -> None:
        """Audiences of every type, claims that are missing, claims that are no object."""
        for aud in (
            None,
            "",
            "chat",
            "mail",
            [],
            ["chat"],
            ["mail", "chat"],
            ["mail"],
            ["chat", 1],
            1,
            {},
            {"chat": 1},
            True,
            False,
        ):
            for audience in (None, "chat"):
                self.assertSame(raw_signed({**CLAIMS, "aud": aud}), audience)
        wrong: tuple[object, ...] = ({"sub": "7"}, {"exp": NOW + 60}, [], "x", 1, None)
        for claims in wrong:
            self.assertSame(raw_signed(claims))

    def test_other_forms_of_the_same_bytes(self) -> None:
        """Unused bits at the end of a part are zero, and padding is not written."""
        token = sign()
        last = token[-1]
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

        self.refused(token[:-1] + alphabet[alphabet.index(last) ^ 1])
        self.assertFalse(self.by_us(token + "=", None))

    def test_payload_is_not_text(self) -> None:
        """A payload that is not a JSON object in UTF-8 with finite numbers is refused."""
        for payload in (b"\xff", b"", b"[" * 3_000, b'{"sub":"7","exp":NaN}', b'{"sub":"7","exp":1e999}'):
            self.refused(jwt.PyJWS().encode(payload, SECRET, "HS256", headers={"typ": "JWT"}))


class KeyTests(SynchronousTestCase):
    def refused(self, algorithm: str, text: str) -> str:
        error: BadRequest = self.assertRaises(BadRequest, read_key, algorithm, text)
        return error.message

    def test_kinds(self) -> None:
        """A key for another algorithm, a private key, a short secret: each is named at start."""
        private = RSA_KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()

        self.assertIn("private", self.refused("RS256", private))
        self.assertIn("another kind", self.refused("RS256", pem(EC_KEY)))
        self.assertIn("another kind", self.refused("ES256", pem(ec.generate_private_key(ec.SECP384R1()))))
        self.assertIn("another kind", self.refused("EdDSA", pem(RSA_KEY)))
        self.assertIn("PEM", self.refused("RS256", SECRET))
        self.assertIn("shared secret", self.refused("HS256", pem(RSA_KEY)))
        self.assertIn("32 bytes", self.refused("HS256", "short"))
        self.assertIn("2048", self.refused("RS256", pem(rsa.generate_private_key(public_exponent=65537, key_size=1024))))
        self.assertIn("none", self.refused("none", ""))

    def test_secret_is_not_shown(self) -> None:
        """The repr of a key hides its secret."""
        self.assertNotIn(SECRET, repr(read_key("HS256", SECRET, "k")))
