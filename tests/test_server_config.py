"""The settings: four sources, one struct, errors that name field and source."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.limits import Limits, RoomPolicy
from twisted_chat.server import config_docs
from twisted_chat.server.config import (
    Given,
    Settings,
    SettingsError,
    field_types,
    load,
    store_path,
    variable,
)
from twisted_chat.server.config_checks import KeyFile, key_file
from twisted_chat.server.options import Options

ROOT = Path(__file__).parent.parent


class SettingsTests(SynchronousTestCase):
    def config(self, text: str) -> str:
        path = Path(self.mktemp())
        path.write_text(text)
        return str(path)

    def refused(self, text: str = "", environ: dict[str, str] | None = None, command_line: tuple[Given, ...] = ()) -> str:
        """The one line that an operator sees, with the file's path as ``FILE``."""
        config = self.config(text)
        line = str(self.assertRaises(SettingsError, load, command_line, environ, config))
        self.assertNotIn("\n", line)
        return line.replace(config, "FILE")

    def test_where_to_listen_is_for_postgresql(self) -> None:
        """The second URL makes no sense without the first."""
        self.assertEqual(
            self.refused('store_listen = "postgresql://db/chat"'),
            "FILE: store_listen: must be a postgresql: URL, and is for a postgresql: store only",
        )
        self.refused('store = "postgresql://pooler/chat"\nstore_listen = "memory:"')
        settings = load((), {}, self.config('store = "postgresql://pooler/chat"\nstore_listen = "postgres://db/chat"'))
        self.assertEqual(settings.store_listen, "postgres://db/chat")

    def test_nothing_given(self) -> None:
        """Without anything it is a chat for this machine, with guests."""
        settings = load()

        self.assertEqual(settings.listen, ("tcp:8080:interface=127.0.0.1",))
        self.assertEqual(settings.limits, Limits())
        self.assertTrue(settings.guests)

    def test_precedence(self) -> None:
        """The command line comes before the environment, the environment before the file, the file before the default."""
        config = self.config('store = "sqlite:file"\nlisten = ["tcp:1"]\nguests = false\n[limits]\nsend_burst = 1\nrooms = 5\n')
        environ = {"TWISTED_CHAT_STORE": "sqlite:environment", "TWISTED_CHAT_LISTEN": "tcp:2 tcp:3", "PATH": "/bin"}
        command_line = [Given("store", "sqlite:option", "--store", text=True)]
        settings = load(command_line, environ, config)

        self.assertEqual(settings.store, "sqlite:option")
        self.assertEqual(settings.listen, ("tcp:2", "tcp:3"))
        self.assertFalse(settings.guests)
        self.assertEqual(settings.limits, Limits(send_burst=1, rooms=5))

    def test_file_named_by_the_environment(self) -> None:
        """``TWISTED_CHAT_CONFIG`` names the configuration file."""
        environ = {"TWISTED_CHAT_CONFIG": self.config("guests = false")}
        self.assertFalse(load((), environ).guests)

    def test_limits_of_the_environment(self) -> None:
        """A variable can set a limit."""
        self.assertEqual(load((), {"TWISTED_CHAT_LIMITS_SEND_PER_SECOND": "0.5"}).limits.send_per_second, 0.5)

    def test_rooms(self) -> None:
        """Exact names first, then patterns in their order."""
        text = '[rooms."live.*"]\ndurable = false\n[rooms.lobby]\nkeep_days = 7\n[rooms."*"]\nsize = 9\n'
        settings = load((), {}, self.config(text))
        policies = settings.policies()

        self.assertEqual(policies.policy("live.goals"), RoomPolicy(durable=False))
        self.assertEqual(policies.policy("lobby"), RoomPolicy(keep_days=7))
        self.assertEqual(policies.policy("other"), RoomPolicy(size=9))

    def test_unknown_names(self) -> None:
        """A name that does not exist is refused with the nearest one that does."""
        self.assertEqual(self.refused("listn = []"), "FILE: listn: no such setting; did you mean listen?")
        self.assertEqual(
            self.refused("[limits]\nsend_brst = 1"), "FILE: limits.send_brst: no such setting; did you mean send_burst?"
        )
        self.assertEqual(
            self.refused("[rooms.a]\nkeep_day = 1"), 'FILE: rooms."a".keep_day: no such setting; did you mean keep_days?'
        )
        self.assertEqual(
            self.refused(environ={"TWISTED_CHAT_GUEST": "on"}),
            "TWISTED_CHAT_GUEST: no such setting; did you mean TWISTED_CHAT_GUESTS?",
        )

    def test_wrong_types(self) -> None:
        """A value of the wrong type names its field and where it came from."""
        for text, line in {
            'guests = "on"': "FILE: guests: expected true or false (on or off), got 'on'",
            "store = 3": "FILE: store: expected text, got 3",
            'listen = "tcp:1"': "FILE: listen: expected a list, got 'tcp:1'",
            "listen = [1]": "FILE: listen: [0]: expected text, got a whole number",
            "limits = 3": "FILE: limits: expected a table, got int",
            '[limits]\nrooms = "x"': "FILE: limits.rooms: expected a whole number, got 'x'",
            '[rooms.a]\nsize = "x"': 'FILE: rooms."a": size: expected a whole number, got text',
            'log_format = "jsn"': "FILE: log_format: 'jsn' is none of text, json; did you mean json?",
        }.items():
            self.assertEqual(self.refused(text), line)
        self.assertEqual(
            self.refused(environ={"TWISTED_CHAT_GUESTS": "maybe"}),
            "TWISTED_CHAT_GUESTS: expected true or false (on or off), got 'maybe'",
        )
        self.assertEqual(
            self.refused(command_line=(Given("drain_seconds", "soon", "--drain-seconds", text=True),)),
            "--drain-seconds: expected a number, got 'soon'",
        )

    def test_values_that_mean_nothing(self) -> None:
        """What has the right type and still cannot be used is refused, too, before anything starts."""
        for text, part in {
            "listen = []": "listen: must name at least one endpoint",
            'allowed_origins = ["*"]': "'*' is not scheme://host",
            'allowed_origins = ["example.org"]': "'example.org' is not scheme://host",
            'allowed_origins = ["https://a.example/path"]': "is not scheme://host",
            'trusted_proxies = ["10.0.0.0/99"]': "trusted_proxies: '10.0.0.0/99' is not an address or network",
            'public_url = "example.org"': "is not the URL of a site",
            'public_url = "https://example.org:99999"': "is not the URL of a site",
            'jwt_keys = ["none:key"]': "is not ALGORITHM:FILE",
            'token_cookie = "a b"': "is not the name of a cookie",
            "drain_seconds = -1": "must be 0 or more",
            "drain_seconds = inf": "drain_seconds: must be at most 1,000,000,000, is inf",
            "[limits]\nping_seconds = inf": "limits.ping_seconds: must be at most",
            "[limits]\nping_seconds = 1e300": "limits.ping_seconds: must be at most",
            "[limits]\nsend_per_second = inf": "limits.send_per_second: must be at most",
            "[limits]\nsend_burst = 9999999999999999": "limits.send_burst: must be at most 9,007,199,254,740,991",
            "[rooms.a]\nslow_mode = inf": '"a".slow_mode: must be at most',
            "[rooms.a]\nkeep_days = nan": '"a".keep_days: must be 0 or more',
            "[rooms.a]\nkeep_days = 1e300": '"a".keep_days: must be at most',
            "[limits]\nsend_burst = 0": "limits.send_burst: must be more than 0, is 0",
            "[limits]\ntext_bytes = 70_000": "must not be larger than limits.frame_bytes",
            '[rooms."a b"]': '"a b" is not the name of a room',
            '[rooms.a]\nwriters = "me"': "'me' is none of all, users, moderators",
            "[rooms.a]\nsize = -1": '"a".size: must be 0 or more',
        }.items():
            said = self.refused(text)
            self.assertIn(part, said)
            self.assertNotRegex(said, r"(\b[a-z_.]+: )\1")

    def test_no_bound(self) -> None:
        """A rate of 0 is no bound; with 0 members nobody is told who is typing."""
        self.assertEqual(load((), {"TWISTED_CHAT_LIMITS_TYPING_MEMBERS": "0"}).limits.typing_members, 0)
        self.assertEqual(load((), {"TWISTED_CHAT_LIMITS_SEND_PER_SECOND": "0"}).limits.send_per_second, 0)
        self.assertEqual(load((), {"TWISTED_CHAT_LIMITS_GUESTS_PER_ADDRESS": "0"}).limits.guests_per_address, 0)

    def test_broken_file(self) -> None:
        """A file that is not TOML or cannot be read is named in the error."""
        self.assertIn("FILE: is not TOML: ", self.refused("listen = "))
        self.assertEqual(self.refused("a = " + "[" * 10_000 + "]" * 10_000), "FILE: is not TOML: nested too deeply")
        self.assertEqual(self.refused("#" * 1_048_577), "FILE: is not TOML: larger than 1,048,576 bytes")
        error = self.assertRaises(SettingsError, load, (), {}, "/nowhere")
        self.assertEqual(str(error), "/nowhere: cannot be read: No such file or directory")

    def test_jwt_keys(self) -> None:
        """Each key is bound to its algorithm, and may have a key id."""
        self.assertEqual(key_file("EdDSA#2026-11:/etc/a:b.pem"), KeyFile("EdDSA", "/etc/a:b.pem", "2026-11"))
        self.assertEqual(key_file("HS256:secret"), KeyFile("HS256", "secret"))

    def test_store_path(self) -> None:
        """A relative path begins where the data is; other stores' addresses are left alone."""
        self.assertEqual(store_path("sqlite:chat.db", "/var/lib/chat"), "sqlite:/var/lib/chat/chat.db")
        self.assertEqual(store_path("sqlite:/srv/chat.db", "/var/lib/chat"), "sqlite:/srv/chat.db")
        self.assertEqual(store_path("sqlite:../chat.db", "/var/lib/chat"), "sqlite:/var/lib/chat.db")
        self.assertEqual(store_path("memory:", "/var/lib/chat"), "memory:")

    @given(st.dictionaries(st.sampled_from(sorted(field_types())).map(variable), st.text(max_size=20), max_size=4))
    def test_any_text_is_taken_or_refused_in_one_line(self, environ: dict[str, str]) -> None:
        """Any values of variables are accepted, or refused in one line that names the variable."""
        try:
            load((), environ | {"TWISTED_CHAT_CONFIG": ""})
        except SettingsError as error:
            assert "\n" not in str(error) and "TWISTED_CHAT_" in str(error), str(error)


class ManualTests(SynchronousTestCase):
    """Sample and documentation follow from the struct."""

    def test_sample_is_current(self) -> None:
        """``python -m twisted_chat.server.config_docs sample > etc/chat.toml`` makes it so."""
        self.assertEqual((ROOT / "etc/chat.toml").read_text(), config_docs.sample())

    def test_documentation_is_current(self) -> None:
        """``python -m twisted_chat.server.config_docs rst > docs/configuration.rst`` makes it so."""
        self.assertEqual((ROOT / "docs/configuration.rst").read_text(), config_docs.rst())

    def test_sample_says_the_defaults(self) -> None:
        """With every line in use, the sample is what holds without it, and every option is in it."""
        lines = [line if line.startswith("# ") else line.removeprefix("#") for line in config_docs.sample().splitlines()]
        path = self.mktemp()
        Path(path).write_text("\n".join(lines))
        settings = load((), {}, path)

        self.assertEqual(msgspec.structs.replace(settings, rooms={}), Settings())
        self.assertEqual(settings.rooms, {"live.*": RoomPolicy()})

        for name in [*field_types(), *(field.name for field in msgspec.structs.fields(RoomPolicy))]:
            if name != "rooms":
                self.assertIn(f"\n#{name.rpartition('.')[2]} = ", config_docs.sample())

    def test_everything_is_explained(self) -> None:
        """Each field, or the one that it shares its explanation with, has a comment."""
        for struct in (Settings, Limits, RoomPolicy):
            texts = config_docs.comments(struct)
            self.assertEqual(set(texts), {field.name for field in msgspec.structs.fields(struct)})
        self.assertEqual([name for name, text in config_docs.comments(Settings).items() if not text], [])


class OptionsTests(SynchronousTestCase):
    def parse(self, *arguments: str, **environ: str) -> Settings:
        options = Options(environ)
        options.parseOptions(list(arguments))
        return options.settings

    def refused(self, *arguments: str) -> str:
        lines: list[str] = []
        self.patch(Options, "_refuse", lambda options, line: lines.append(line))
        options = Options({})
        options.parseOptions(list(arguments))
        (line,) = lines
        return line

    def test_every_setting_is_an_option(self) -> None:
        """Options follow from the fields; what is a table in the file is none."""
        options = Options({})
        for name, expected in field_types().items():
            dashed = name.replace("_", "-")
            if name != "rooms" and not name.startswith("limits."):
                self.assertIn(dashed if expected is bool else f"{dashed}=", options.longOpt)
                self.assertIn(f"--{'no-' if getattr(Settings(), name) is True else ''}{dashed}", str(options))

    def test_lists_and_switches(self) -> None:
        """Lists take several options, switches are written ``--NAME`` or ``--no-NAME``, limits ``--limit``."""
        listen = ("--listen", "tcp:1", "--listen=unix:/run/a b")
        settings = self.parse(*listen, "--no-guests", "--compression", "--limit=send-burst=7")

        self.assertEqual(settings.listen, ("tcp:1", "unix:/run/a b"))
        self.assertFalse(settings.guests)
        self.assertTrue(settings.compression)
        self.assertEqual(settings.limits.send_burst, 7)

    def test_command_line_before_environment(self) -> None:
        """An option overrides a variable; other variables stay in force."""
        settings = self.parse("--guests", TWISTED_CHAT_GUESTS="off", TWISTED_CHAT_DRAIN_SECONDS="3")
        self.assertTrue(settings.guests)
        self.assertEqual(settings.drain_seconds, 3.0)

    def test_nearest(self) -> None:
        """An unknown option or limit is refused with the nearest known one."""
        self.assertEqual(self.refused("--lisen=tcp:1"), "--lisen: no such option; did you mean --listen?")
        self.assertEqual(self.refused("--limit=send_brst=1"), "--limit send_brst=1: no such limit; did you mean send_burst?")
        self.assertEqual(self.refused("--limit=send_burst"), "--limit send_burst: write --limit send_burst=NUMBER")
        self.assertIn("'8080': not understood", self.refused("8080"))

    def test_relative_config_stays_where_it_was(self) -> None:
        """twistd may change its directory between the start and a SIGHUP."""
        path = self.mktemp()
        Path(path).write_text("guests = false")
        options = Options({})

        options.parseOptions(["--config", path])

        self.assertEqual(options.config, os.path.abspath(path))

        Path(path).write_text("drain_seconds = 1")
        self.assertEqual(options.load().drain_seconds, 1.0)
