"""HTTP/1.1 that servers read differently, refuse, or should: what request smuggling is made of. And some that is fine."""
GET = b"GET /node HTTP/1.1\r\nHost: x\r\n\r\n"


def _post(fields, content=b""):
    return b"POST /length HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n" + content


REQUESTS = [
    GET, GET * 3, b"HEAD /node HTTP/1.1\r\nHost: x\r\n\r\n", _post(b"Content-Length: 5\r\n", b"hello"),
    _post(b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n"), _post(b"Transfer-Encoding: chunked\r\n", b"1\r\nx\r\n0\r\nDigest: y\r\n\r\n"),
    b"GET /node HTTP/1.0\r\n\r\n", b"GET /node HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b"GET /node HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n" + GET, b"\n" + GET, b"\r\n\r\n\r\n" + GET,
    # lengths
    _post(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello"), _post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"),
    _post(b"Content-Length: 5, 5\r\n", b"hello"), _post(b"Content-Length: -5\r\n", b"hello"), _post(b"Content-Length: +5\r\n", b"hello"), _post(b"Content-Length: 0x5\r\n", b"hello"),
    _post(b"Content-Length: \r\n"), _post(b"Content-Length: 5 \r\n", b"hello"), _post(b"Content-Length:\t5\r\n", b"hello"), _post(b"Content-Length : 5\r\n", b"hello"),
    _post(b"Content-Length: 99999999999999999999\r\n"), _post(b"Content-Length: 18446744073709551616\r\n"), _post(b"Content-Length: 5 5\r\n", b"hello"), _post(b"Content-Length: 1e1\r\n", b"x" * 10),
    _post(b"Content-Length: 00005\r\n", b"hello"), _post(b"Content_Length: 5\r\n", b"hello"), _post(b"Content-Length\r\n: 5\r\n", b"hello"),
    # encodings
    _post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), _post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n"),
    _post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), _post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    _post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"), _post(b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"), _post(b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n", b"hello"),
    _post(b"Transfer-Encoding:\x0bchunked\r\n", b"0\r\n\r\n"), _post(b"Transfer-Encoding: chunked \r\n", b"0\r\n\r\n"), _post(b"Transfer-Encoding:chunked\r\n", b"0\r\n\r\n"),
    _post(b"transfer-encoding: CHUNKED\r\n", b"0\r\n\r\n"), _post(b"Transfer-Encoding: \"chunked\"\r\n", b"0\r\n\r\n"), _post(b"Transfer-Encoding: chunked;q=1\r\n", b"0\r\n\r\n"),
    # chunks
    _post(b"Transfer-Encoding: chunked\r\n", b"5;a=b\r\nhello\r\n0\r\n\r\n"), _post(b"Transfer-Encoding: chunked\r\n", b"5 \r\nhello\r\n0\r\n\r\n"),
    _post(b"Transfer-Encoding: chunked\r\n", b"0x5\r\nhello\r\n0\r\n\r\n"), _post(b"Transfer-Encoding: chunked\r\n", b"-1\r\nhello\r\n0\r\n\r\n"),
    _post(b"Transfer-Encoding: chunked\r\n", b"ffffffffffffffff\r\nhello"), _post(b"Transfer-Encoding: chunked\r\n", b"10000000000000000\r\nhello"),
    _post(b"Transfer-Encoding: chunked\r\n", b"4\r\nhello\r\n0\r\n\r\n"), _post(b"Transfer-Encoding: chunked\r\n", b"6\r\nhello\r\n0\r\n\r\n"), _post(b"Transfer-Encoding: chunked\r\n", b"5\nhello\n0\n\n"),
    _post(b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\nContent-Length: 7\r\n\r\n"), _post(b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n00000\r\n\r\n"), _post(b"Transfer-Encoding: chunked\r\n", b"\r\nhello"),
    _post(b"Transfer-Encoding: chunked\r\n", b"5;\n\r\nhello\r\n0\r\n\r\n"),
    # lines
    b"GET /node HTTP/1.1\nHost: x\n\n", b"GET /node HTTP/1.1\r\nHost: x\nX: y\r\n\r\n", b"GET /node HTTP/1.1\r\nHost: x\rX: y\r\n\r\n", b"GET /node HTTP/1.1\r\nHost: x\0y\r\n\r\n",
    b"GET /node HTTP/1.1\r\nHost: x\r\nX: b\r\n c\r\n\r\n", b"GET /node HTTP/1.1\r\n Host: x\r\n\r\n", b"GET /node HTTP/1.1\r\nHost\r\n\r\n", b"GET /node HTTP/1.1\r\n: x\r\n\r\n",
    b"GET /node HTTP/1.1\r\nHo st: x\r\n\r\n", b"GET /node HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", b"GET /node HTTP/1.1\r\n\r\n", b"GET  /node HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /no de HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /node http/1.1\r\nHost: x\r\n\r\n", b"GET /node HTTP/1.1 \r\nHost: x\r\n\r\n", b"GET /node\r\n\r\n", b"GET /node HTTP/1.2\r\nHost: x\r\n\r\n",
    b"GET /node HTTP/2.0\r\nHost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"G\xc3\xa9T /node HTTP/1.1\r\nHost: x\r\n\r\n", b"get /node HTTP/1.1\r\nHost: x\r\n\r\n", b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://x/node HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /node?\x7f HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /node HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 9000 + b"\r\n\r\n",
    b"GET /node HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 20000 + b"\r\n", b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2, b"\0" * 100, b"SSH-2.0-x\r\n",
    b"GET /node HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n", _post(b"Expect: 100-continue\r\nContent-Length: 5\r\n", b"hello"), _post(b"Expect: magic\r\nContent-Length: 5\r\n", b"hello"),
    b"GET /node HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", b"GET /node HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
]
# Hidden encodings: does what follows count as a request of its own?
for _te in (b"Transfer-Encoding : chunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x", b"X: x\nTransfer-Encoding: chunked", b"Transfer-Encoding\n: chunked", b" Transfer-Encoding: chunked",
            b"Transfer_Encoding: chunked", b"Foo: bar\r\n\rTransfer-Encoding: chunked", b"Transfer-Encoding: cow, chunked", b"Transfer-Encoding:\r\n chunked", b"X: y\r\n\tTransfer-Encoding: chunked"):
    REQUESTS.append(b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n" + _te + b"\r\n\r\n0\r\n\r\nG" + GET)
