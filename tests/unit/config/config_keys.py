"""For every key of the schema a value that it takes, one that it does not, and what is said of that one."""

from __future__ import annotations

from dataclasses import dataclass

TEXT = "a text that is not empty"
PORT = "a port, 1 to 65535"
PERIOD = "a period such as 90s, 15m, 1h30m or 30d, or 0"
URL = "the address of an application or a server, such as http://host:3000/api/inngest"
REDIS = "the address of a Redis server, such as redis://user:password@host:6379/0"
DATABASE = "the address of a database, such as postgres://user:password@host:5432/database"
UNQUOTED = ", without quotes: the value of a variable too, as in ${VAR}"
HOSTS = "the address of a server, host:port"
UNSAFE = 'one of "no-aof", "no-persistence", "eviction"'


@dataclass(frozen=True)
class Case:
    """A key, in CUE. ``beside`` is what else its section needs, ``shown`` how the wrong value is shown."""

    path: str
    accepted: str
    rejected: str
    allowed: str
    beside: str = ""
    shown: str = ""
    at: str = ""

    @property
    def message(self) -> str:
        where, shown = self.at or self.path, self.shown or self.rejected
        return f"{where}: {shown} is not allowed; it is to be {self.allowed}"


def address(section: str) -> list[Case]:
    return [
        Case(f"{section}.addr", '"127.0.0.1"', '""', TEXT),
        Case(f"{section}.port", "9000", "65536", PORT),
        Case(f"{section}.port", "1", "0", PORT),
        Case(f"{section}.port", "65535", "80.5", PORT),
        Case(f"{section}.port", "80", '"80"', PORT + UNQUOTED),
    ]


PLAIN = [
    Case("dataDir", '"/var/lib/inngest"', '""', TEXT),
    Case("log.level", '"trace"', '"warning"', 'one of "info", "trace", "debug", "warn", "error"'),
    Case("log.format", '"console"', '"text"', 'one of "json", "console"'),
    Case("keys.signing", '["aa", "bb"]', '"aa"', "a list, in brackets", shown="the text given"),
    Case("keys.signing", '["aa"]', '[""]', TEXT, shown="the text given", at="keys.signing.0"),
    Case("keys.event", '["aa"]', "[5]", TEXT, shown="5", at="keys.event.0"),
    *address("eventAPI"),
    Case("eventAPI.maxSize", "524288", "1023", "a whole number, at least 1024"),
    *address("coreAPI"),
    *address("runner"),
    *address("executor"),
    Case("executor.concurrency", "1", "0", "a whole number, at least 1"),
    *address("metrics"),
    Case("metrics.token", '"t0ken"', '""', TEXT, shown="the text given"),
    Case("execution.http.allow", '["10.0.0.0/8", ".internal"]', '"10.0.0.0/8"', "a list, in brackets"),
    Case("execution.http.allow", '["a"]', '[""]', TEXT, shown='""', at="execution.http.allow.0"),
    Case("execution.http.deny", '["10.0.0.0/8"]', "[5]", TEXT, shown="5", at="execution.http.deny.0"),
    Case("execution.logOutput", "true", '"true"', "true or false" + UNQUOTED),
    Case("execution.retryInterval", '"30s"', "30", PERIOD),
    Case("execution.requestTimeout", '"15m"', '"15 minutes"', PERIOD),
    Case("apps.urls", '["https://a.example/i"]', '["a.example"]', URL, shown='"a.example"', at="apps.urls.0"),
    Case("apps.pollInterval", '"1m"', '"often"', PERIOD),
    Case("retention.history", '"0"', '"-1h"', PERIOD),
    Case("limits.maxEventSize", "1Mi", "1", "a whole number, at least 1024"),
    Case("limits.maxRequestSize", "10M", "1", "a whole number, at least 1024"),
    Case("limits.maxSteps", "50", "0", "a whole number, at least 1"),
    Case("limits.maxState", "1024", "null", "a whole number, at least 1024"),
    Case("limits.gracePeriod", '"1m30s"', "true", PERIOD),
]  # fmt: skip


def service(
    section: str,
    backend: str,
    key: str,
    accepted: str,
    rejected: str,
    allowed: str,
    beside: str = "",
    **rest: str,
) -> Case:
    return Case(
        f"{section}.service.{key}", accepted, rejected, allowed, f'backend: "{backend}", {beside}', **rest
    )


def tls(section: str, backend: str, beside: str = "") -> list[Case]:
    files = [
        service(section, backend, f"tls.{key}", '"/etc/x.pem"', '""', TEXT, beside)
        for key in ("ca", "cert", "key")
    ]
    return [*files, service(section, backend, "tls.insecure", "true", "1", "true or false", beside)]


def redis(section: str) -> list[Case]:
    def one(key: str, accepted: str, rejected: str, allowed: str, beside: str = "", **rest: str) -> Case:
        return service(section, "redis", key, accepted, rejected, allowed, beside, **rest)

    node, master = f"{section}.service.sentinel.nodes.0", 'sentinel: master: "m", '
    unsafe = f"{section}.service.allowUnsafe.0"
    return [
        one("dsn", '"rediss://h/1"', '"http://h"', REDIS),
        one("host", '"h"', "5", TEXT),
        one("port", "6380", "0", PORT),
        one("db", "2", "-1", "a whole number, at least 0"),
        one("username", '"u"', "5", "a text"),
        one("password", '"p"', "5", "a text"),
        one("maxRetries", "-1", "-2", "a whole number, at least -1"),
        one("poolSize", "1", "0", "a whole number, at least 1"),
        one("keyPrefix", '""', "false", "a text"),
        one("allowUnsafe", '["no-aof"]', '"no-aof"', "a list, in brackets"),
        one("allowUnsafe", '["eviction", "no-persistence"]', '["all"]', UNSAFE, shown='"all"', at=unsafe),
        *tls(section, "redis"),
        one("sentinel.master", '"m"', '""', TEXT, 'sentinel: nodes: ["h:1"], '),
        one("sentinel.nodes", '["h:1", "i:1"]', '["h"]', HOSTS, master, shown='"h"', at=node),
        one("sentinel.username", '"u"', "5", "a text", 'sentinel: {master: "m", nodes: ["h:1"]}, '),
        one("sentinel.password", '"p"', "5", "a text", 'sentinel: {master: "m", nodes: ["h:1"]}, '),
        one("cluster.nodes", '["h:1"]', '"h:1"', "a list, in brackets"),
    ]  # fmt: skip


_NATS = 'serverURL: "nats://h:4222", '
_SQS = 'queueURL: "https://q", region: "r", '
_PUBSUB = 'project: "p", topic: "t", '

SERVICES = [
    service("eventstream", "sqlite", "topic", '"t"', '""', TEXT),
    service("eventstream", "inmemory", "topic", '"t"', "1", TEXT),
    service("eventstream", "redis", "topic", '"t"', "1", TEXT),
    *redis("eventstream"),
    service("eventstream", "nats", "serverURL", '"nats://h:4222"', '""', TEXT),
    service("eventstream", "nats", "topic", '"t"', '""', TEXT, _NATS),
    service("eventstream", "nats", "stream", '"S_1"', '"a.b"', "a name of letters, digits, - and _", _NATS),
    service("eventstream", "nats", "replicas", "3", "6", "a whole number from 1 to 5", _NATS),
    service("eventstream", "nats", "retention", '"24h"', '"24"', PERIOD, _NATS),
    service("eventstream", "nats", "credentials", '"/x.creds"', '""', TEXT, _NATS),
    service("eventstream", "nats", "username", '"u"', "1", "a text", _NATS),
    service("eventstream", "nats", "password", '"p"', "1", "a text", _NATS),
    service("eventstream", "nats", "token", '"t"', "1", "a text", _NATS),
    service("eventstream", "nats", "nkey", '"SU"', "1", "a text", _NATS),
    *tls("eventstream", "nats", _NATS),
    service("eventstream", "aws-sqs", "queueURL", '"https://q"', '""', TEXT, 'region: "r", '),
    service("eventstream", "aws-sqs", "region", '"r"', '""', TEXT, 'queueURL: "https://q", '),
    service("eventstream", "aws-sqs", "topic", '"t"', '""', TEXT, _SQS),
    service("eventstream", "aws-sqs", "endpoint", '"http://localhost:4566"', '"localhost"', URL, _SQS),
    service("eventstream", "gcp-pubsub", "project", '"p"', '""', TEXT, 'topic: "t", '),
    service("eventstream", "gcp-pubsub", "topic", '"t"', '""', TEXT, 'project: "p", '),
    service("eventstream", "gcp-pubsub", "subscription", '"s"', '""', TEXT, _PUBSUB),
    service("eventstream", "gcp-pubsub", "endpoint", '"localhost:8085"', '""', TEXT, _PUBSUB),
    *redis("queue"),
    service("queue", "aws-sqs", "queueURL", '"https://q"', '""', TEXT, 'region: "r", '),
    service("queue", "aws-sqs", "region", '"r"', '""', TEXT, 'queueURL: "https://q", '),
    service("queue", "aws-sqs", "topic", '"t"', '""', TEXT, _SQS),
    service("queue", "aws-sqs", "concurrency", "50", "0", "a whole number, at least 1", _SQS),
    service("queue", "aws-sqs", "endpoint", '"https://e"', "1", URL, _SQS),
    *redis("state"),
    service("datastore", "postgres", "URI", '"postgresql://h/db"', '"mysql://h"', DATABASE),
    service("datastore", "postgres", "minConnections", "0", "-1", "a whole number, at least 0"),
    service("datastore", "postgres", "maxConnections", "1", "0", "a whole number, at least 1"),
    *tls("datastore", "postgres"),
]  # fmt: skip

DRIVERS = [
    Case("execution.drivers.http.timeout", "0", "-1", "a whole number, at least 0", 'name: "http", '),
    Case("execution.drivers.http.signingKey", '"aa"', '""', TEXT, 'name: "http", ', shown="the text given"),
    Case("execution.drivers.http.driver", '"http"', "1", "a text", 'name: "mock", '),
    Case("execution.drivers.docker.host", '"unix:///x"', "1", "a text", 'name: "docker", '),
    Case("execution.drivers.docker.network", '"bridge"', "1", "a text", 'name: "docker", '),
    Case("execution.drivers.docker.driver", '"docker"', "1", "a text", 'name: "mock", '),
]

CASES = [*PLAIN, *SERVICES, *DRIVERS]
