"""Values that stand in for a secret: placeholders, variables, samples of manuals, passwords of development servers."""

from __future__ import annotations

import re

from shared.redaction.sensitive import PLACEHOLDER

#: Passwords of development servers, which every tutorial has.
DEFAULTS = frozenset(
    {
        "postgres", "postgresql", "mysql", "mariadb", "root", "admin", "guest", "test", "user", "dev", "docker", "example", "mongo",
        "redis", "rabbitmq", "minio", "minioadmin", "elastic", "changeme", "password", "passwd", "pass", "secret", "1234", "12345",
        "123456", "app", "web", "localhost", "development", "testing", "sample", "demo", "letmein", "toor",
        "tiger", "xyz", "foo", "bar", "anoncvs", "anonymous",
    }
)  # fmt: skip
#: Tokens as the manuals of vendors write them.
DOCUMENTED = re.compile(r"EXAMPLE|(?i:x{5}|1234567890|0123456789|abcdefghij)|(?i:your)[-_A-Z]")
_WHOLE = re.compile(
    r"(?i)(?:<[^>]*>|\$\{.*\}|\{\{.*\}\}|\{[a-z_][\w.]*\}|\$\(.*\)?|\$[A-Za-z_]\w*|%\(\w+\)s|%[A-Z_]+%|%s|[*•x._#-]+|\[.*\]|#.*|…|"
    r"none|null|nil|true|false|undefined|required|optional|string|str|int|text|bytes|hidden|masked|missing|invalid|empty|unset|n/?a|"
    r"yes|no|env|input|default|token|bearer|basic|username|api[_-]?key|foo|bar|baz|foobar|abc|abc123|value|number|varchar.*|char.*|"
    r"any|object|boolean|self|this|wrong|correct|incorrect|expired|in|not|the|stored|rotated|sent|now|only|also|never|always|used|set|"
    r"valid|unknown|forgot|forgotten|reset|changed|updated|encrypted|hashed|s3cr3t|p[a4]ssw[o0]rd1?)[.;,!?)]*"
)
_VARIABLE = re.compile(
    r"\$\{[A-Za-z_][^}]*\}?|\{\{|^\$\(|%\(\w+\)|<[A-Za-z][\w -]*>|^\$[A-Za-z_]\w*|^\*{3}|\*{4}|x{5}|X{5}|\.{3}$|…|^&|_{5}|EXAMPLE"
)
_FIELD = re.compile(r"\{[A-Za-z_][\w.]*\}")
_WORDS = frozenset(
    {
        "your", "changeme", "change", "example", "placeholder", "redacted", "dummy", "todo", "replace", "insert", "fill", "secrets",
        "vault", "environ", "env", "fake", "sample", "xxx", "changeit", "goes", "here", "mysecret", "mypassword",
    }
)  # fmt: skip
_SPLIT = re.compile(r"[^A-Za-z]+|(?<=[a-z])(?=[A-Z])")
_CODE = re.compile(r"--?[a-z]|(?:os|process|secrets|self|settings|config|env|request|args|options|this)\.[a-z_]")


def stands_in(value: str) -> bool:
    """Whether a value names or hides a secret rather than being one."""
    if len(value) < 4 or value.lower() in DEFAULTS or _WHOLE.fullmatch(value) or _VARIABLE.search(value):
        return True
    if _FIELD.search(value) and not re.search(r"\d", _FIELD.sub("", value)):
        return True
    if _CODE.match(value) or PLACEHOLDER.search(value):
        return True
    return any(word.lower() in _WORDS for word in _SPLIT.split(value))
