"""URLs and request heads, without a socket."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inngest.drivers.http import CLIENT_HEADERS, HttpClient, InvalidHeader, UnsupportedUrl
from inngest.drivers.http.head import encode_head

A = HttpClient.target("http://app/api")


@pytest.mark.parametrize(
    ("url", "origin", "host_header", "path"),
    [
        ("http://app", "http://app:80", "app", "/"),
        ("HTTP://App:80/x", "http://app:80", "app", "/x"),
        ("https://app:443?a=b", "https://app:443", "app", "/?a=b"),
        ("https://app:80/", "https://app:80", "app:80", "/"),
        (
            "http://my_app.default.svc./x;y?z#f",
            "http://my_app.default.svc.:80",
            "my_app.default.svc.",
            "/x;y?z",
        ),
        ("http://[::1]:8080/x", "http://[::1]:8080", "[::1]:8080", "/x"),
        ("http://[0:0::1]/x", "http://[::1]:80", "[::1]", "/x"),
        (
            "http://bücher.example/ä b".replace(" ", "%20"),
            "http://xn--bcher-kva.example:80",
            "xn--bcher-kva.example",
            "/%C3%A4%20b",
        ),
    ],
)
def test_a_url_is_taken_apart(url: str, origin: str, host_header: str, path: str) -> None:
    target = HttpClient.target(url)
    assert target.origin == origin
    assert target.head.startswith(f" {path} HTTP/1.1\r\nhost: {host_header}\r\n")
    assert target.url == f"{target.scheme}://{host_header}{path}"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "scheme is ''"),
        ("app/api", "scheme is ''"),
        ("ftp://app", "scheme is 'ftp'"),
        ("javascript:alert(1)", "scheme is 'javascript'"),
        ("http://", "no host"),
        ("http:///x", "no host"),
        ("http://:80", "no host"),
        ("http://a..b", "no usable host"),
        ("http://a%2eb", "no usable host"),
        ("http://a:0", "port is 0"),
        ("http://a:65536", "host or port is malformed"),
        ("http://a:b", "host or port is malformed"),
        ("http://[::1", "host or port is malformed"),
        ("http://[1::2::3]", "malformed|not an IPv6"),
        ("http://\xad/", "not a valid name|no usable host"),
        ("http://a/\r\nx: y", "'\\\\r' at position 10"),
        ("http://a/ b", "' ' at position 10"),
        ("http://good\\@evil", "position 12"),
        ("http://a/\0", "position 10"),
    ],
)
def test_a_url_that_cannot_be_called(url: str, message: str) -> None:
    with pytest.raises(UnsupportedUrl, match=message):
        HttpClient.target(url)


def test_a_malformed_url_does_not_give_its_password_away() -> None:
    with pytest.raises(UnsupportedUrl) as caught:
        HttpClient.target("http://user:pass/word@app")
    assert "pass" not in str(caught.value)


def test_userinfo_becomes_a_basic_credential_unless_one_is_given() -> None:
    target = HttpClient.target("http://us%3Aer:p%20w@app/")
    assert target.url == "http://app/"
    assert b"\r\nauthorization: Basic dXM6ZXI6cCB3\r\n" in encode_head("GET", target, {}, 0)
    given_one = encode_head("GET", target, {"Authorization": "Bearer t"}, 0)
    assert given_one.lower().count(b"authorization:") == 1
    assert b"Bearer t" in given_one


def test_a_whole_head() -> None:
    assert encode_head("POST", A, {"x-a": "é"}, 12) == (
        b"POST /api HTTP/1.1\r\nhost: app\r\naccept-encoding: gzip, br\r\n"
        b"x-a: \xe9\r\ncontent-length: 12\r\n\r\n"
    )


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\n", "\ra", "a\0b", "a\r", "\n"])
def test_a_value_cannot_hold_a_line_end(value: str) -> None:
    with pytest.raises(InvalidHeader, match="header x-b holds a line end") as caught:
        encode_head("POST", A, {"x-a": "1", "x-b": value}, 0)
    assert repr(value)[1:-1] not in str(caught.value)


@pytest.mark.parametrize("name", ["", "x y", "x:", "x\r\ny", "é", " x", "x\t"])
def test_a_name_is_a_token(name: str) -> None:
    with pytest.raises(InvalidHeader, match="is not a header name"):
        encode_head("POST", A, [(name, "1")], 0)


@pytest.mark.parametrize("method", ["", "GET /x HTTP/1.1\r\nhost: evil\r\n\r\nGET", "G T", "É"])
def test_a_method_is_a_token(method: str) -> None:
    with pytest.raises(InvalidHeader, match="is not a request method"):
        encode_head(method, A, {}, 0)


@pytest.mark.parametrize("name", sorted(CLIENT_HEADERS | {"Content-Length", "Host"}))
def test_framing_is_not_the_callers(name: str) -> None:
    with pytest.raises(InvalidHeader, match=f"the header {name} is set by the client itself"):
        encode_head("POST", A, {name: "1"}, 0)


def test_a_value_outside_latin_1_is_refused() -> None:
    with pytest.raises(InvalidHeader, match="'Ω', which is outside Latin-1"):
        encode_head("POST", A, {"x-a": "Ω"}, 0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(), st.text())), st.text())
def test_no_header_adds_a_line_of_its_own(headers: list[tuple[str, str]], method: str) -> None:
    try:
        head = encode_head(method, A, headers, 0)
    except InvalidHeader:
        return
    lines = head.split(b"\r\n")
    assert lines[-2:] == [b"", b""]
    names = [line.split(b":", 1)[0].decode() for line in lines[1:-2]]
    assert names[:2] == ["host", "accept-encoding"]
    assert [name for name in names[2:] if name != "content-length"] == [name for name, _ in headers]


@settings(deadline=None)
@given(st.text())
def test_no_url_adds_a_line_of_its_own(text: str) -> None:
    for url in (f"http://app/{text}", f"http://{text}/", f"http://app?{text}"):
        try:
            target = HttpClient.target(url)
        except UnsupportedUrl:
            continue
        assert target.head.isascii()
        assert target.head.count("\r\n") == 2
        assert target.head.split("\r\n")[0].count(" ") == 2
