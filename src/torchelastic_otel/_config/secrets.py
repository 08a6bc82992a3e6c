"""What this process knows as secret, taken out of everything that it says or keeps.

Headers, credentials in URLs, and proxies': a server may quote them, an error may, and a variable that has a
mistake in it is quoted by a warning. Also where nobody knows of a secret, what stands in a URL before the
host, or in its query, is none of a message's business.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, unquote, unquote_plus

from .._runtime.guard import redact_with

STARS = "***"
# What is shorter hides nothing, and taking it out would make texts unreadable.
_SHORTEST = 6
_SCHEMES = frozenset(("apikey", "api-key", "basic", "bearer", "digest", "negotiate", "splunk", "token"))
_MOST_SEARCHED = 8192

_HEADERS = re.compile(r"OTEL_EXPORTER_\w*HEADERS")
_URLS = re.compile(r"OTEL_EXPORTER_\w*ENDPOINT|\w*_PROXY", re.IGNORECASE)
# Their lengths are bounded: a long text without blanks would take for ever.
_USER_INFO = re.compile(
    r"""(///?)[^/?#\s'"<>]{0,512}@|(?<!\w)[^\s/'"<>@:?&=]{1,512}:(?!/)[^\s'"<>@]{0,512}@"""
)
_QUERY = re.compile(r"""(://[^\s'"<>?#]{1,512}\?)([^\s'"<>#]{1,4096})""")
_VALUE = re.compile(r"=[^&;]+")


class Redactor:
    """Takes secrets out of texts.

    Args:
        secrets: those that are known; what is shorter than six characters is no secret.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = frozenset(each for each in secrets if len(each) >= _SHORTEST)
        longest_first = sorted(self._secrets, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    @classmethod
    def of_environment(cls, environ: Mapping[str, str]) -> Redactor:
        """Return one that knows the headers, endpoints and proxies of an environment."""
        return cls(_secrets_of_variables(environ.items()))

    def knowing(self, headers: Iterable[str] = (), urls: Iterable[str] = ()) -> Redactor:
        """Return one that also knows these values of headers, and what is secret in these URLs."""
        more = [*map(_of_header, headers), *map(_of_url, urls)]
        return Redactor(self._secrets.union(*more))

    def known(self, text: str) -> str:
        """Return ``text`` without known secrets; URLs in it may be a user's own."""
        return self._known.sub(STARS, text) if self._known else text

    def __call__(self, text: str) -> str:
        """Return ``text`` without known secrets, and without credentials and queries of URLs."""
        text = self.known(text)
        head, rest = text[:_MOST_SEARCHED], text[_MOST_SEARCHED:]
        return _QUERY.sub(_without_values, _USER_INFO.sub(_stars_before_host, head)) + rest


def _stars_before_host(found: re.Match[str]) -> str:
    return f"{found[1] or ''}{STARS}@"


def _without_values(found: re.Match[str]) -> str:
    return found[1] + (_VALUE.sub(f"={STARS}", found[2]) if "=" in found[2] else STARS)


def redact(text: str) -> str:
    """Return ``text`` as this process may say or keep it."""
    return of_process()(text) if text else text


def of_process() -> Redactor:
    """Return the redactor of this process's environment as it is now."""
    global _last
    try:
        variables = tuple(item for item in os.environ.items() if _is_secretive(item[0]))
    except RuntimeError:  # another thread changes it at this moment
        return _last[1]
    if variables != _last[0]:
        _last = variables, Redactor(_secrets_of_variables(variables))
    return _last[1]


_last: tuple[tuple[tuple[str, str], ...], Redactor] = ((), Redactor())


def shown(name: str, value: str) -> str:
    """Return the value of the variable ``name`` as a warning may quote it, however wrong it is."""
    if not _URLS.fullmatch(name):
        return redact(value)
    before, at, host = value.rpartition("@")
    if at:
        scheme = re.match(r"[A-Za-z][\w+.-]*:/+", before)
        value = f"{scheme[0] if scheme else ''}{STARS}@{host}"
    text, question, _ = value.partition("?")
    return redact(f"{text}?{STARS}" if question else text)


def without_credentials(endpoint: str) -> str:
    """Return an endpoint for people: without user and password, and without its query."""
    scheme, separator, rest = endpoint.partition("://")
    if not separator:
        scheme, rest = "", endpoint
        if re.match(r"unix(-abstract)?:", endpoint):
            return endpoint
    slashes = re.match("/*", rest)
    rest = re.split(r"[?#]", rest, maxsplit=1)[0][slashes.end() if slashes else 0 :]
    authority, slash, path = rest.partition("/")
    shown_part = authority.rpartition("@")[2] + slash + path
    if "@" in path and ":" in authority and not authority.rpartition(":")[2].isdigit():
        shown_part = rest.rpartition("@")[2]  # a password with a slash in it
    return f"{scheme}{separator}{slashes[0] if slashes else ''}{shown_part}"


# What is secret


def _is_secretive(name: str) -> bool:
    return bool(_HEADERS.fullmatch(name) or _URLS.fullmatch(name))


def _secrets_of_variables(variables: Iterable[tuple[str, str]]) -> set[str]:
    found: set[str] = set()
    for name, text in variables:
        if _HEADERS.fullmatch(name):
            for item in text.split(","):
                head, equals, value = item.partition("=")
                # What has no "=" may be a credential that was cut at its comma.
                found |= _of_header(value if equals else head)
            found |= _of_header(text.partition("=")[2])
        elif _URLS.fullmatch(name):
            found |= _of_url(text)
    return found


def _of_header(value: str) -> set[str]:
    """Return what is secret in a header: all of it, and its parts, of which a server may quote one."""
    found = set()
    for text in {value.strip(), unquote(value).strip(), unquote_plus(value).strip()}:
        parts = [part for part in text.split() if part.lower().rstrip(":") not in _SCHEMES]
        found |= {text, *parts} if parts else set()
        for part in parts:
            found |= _of_basic(part)
    return _spelled(found)


def _of_basic(part: str) -> set[str]:
    """Return user and password, and the password, if ``part`` is the two in the form of Basic."""
    try:
        user_info = base64.b64decode(part, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return set()
    return {user_info, user_info.partition(":")[2]} if ":" in user_info and user_info.isprintable() else set()


def _of_url(text: str) -> set[str]:
    """Return what is secret in a URL, or in what was meant to be one."""
    found: set[str] = set()
    if "@" in text:
        before = text.rpartition("@")[0]
        user_info = (before.partition("//")[2] or before).lstrip("/")
        for each in (user_info, unquote(user_info)):
            found |= {each, each.partition(":")[2], each.rpartition(":")[2]}
            # As HTTP sends it.
            found.add(base64.b64encode(each.encode(errors="replace")).decode())
    query = text.partition("?")[2]
    for pair in re.split("[&;#]", query):
        value = pair.partition("=")[2] or pair
        found |= {value, unquote(value), unquote_plus(value)}
    return _spelled(found)


def _spelled(secrets: Iterable[str]) -> set[str]:
    """Return secrets in the forms in which a server may quote them."""
    return {form for secret in secrets for form in _forms(secret)}


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield repr(secret)[1:-1]
    yield json.dumps(secret)[1:-1]
    yield html.escape(secret)
    yield quote(secret)
    yield quote(secret, safe="")


redact_with(redact)
