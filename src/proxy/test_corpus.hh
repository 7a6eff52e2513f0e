// Well-formed and malformed HTTP/1.1, one exchange each: for the boundary tracker's tests, and for comparing a server's answers with and
// without geckoproxy (tests/proxy).
#pragma once

#include <string>
#include <vector>

namespace gecko::proxy::test {

inline constexpr size_t kMaxHead = 4096;

struct Exchange {
  const char* name;
  std::string request, response;
  const char* reason;      // nullptr: understood, and a boundary afterwards
};

inline const std::string kGet = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
inline const std::string kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

inline std::string get(const std::string& fields) { return "GET / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n"; }
inline std::string post(const std::string& fields, const std::string& body) { return "POST /x HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n" + body; }
inline std::string answer(const std::string& status, const std::string& fields, const std::string& body = "") {
  return "HTTP/1.1 " + status + "\r\n" + fields + "\r\n" + body;
}

inline const std::vector<Exchange>& understood() {
  static const std::vector<Exchange> all = {
      {"get", kGet, kOk, nullptr},
      {"no content", kGet, answer("204 No Content", "Date: x\r\n"), nullptr},
      {"not modified with a length", kGet, answer("304 Not Modified", "Content-Length: 500\r\n"), nullptr},
      {"head", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", answer("200 OK", "Content-Length: 500\r\n"), nullptr},
      {"head of something chunked", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", answer("200 OK", "Transfer-Encoding: chunked\r\n"), nullptr},
      {"empty", kGet, answer("200 OK", "Content-Length: 0\r\n"), nullptr},
      {"reason phrase may be empty", kGet, answer("200 ", "Content-Length: 0\r\n"), nullptr},
      {"post", post("Content-Length: 5\r\n", "hello"), kOk, nullptr},
      {"chunked both ways", post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
       answer("200 OK", "transfer-encoding: Chunked\r\n", "A\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\n"), nullptr},
      {"trailers", post("Transfer-Encoding: chunked\r\n", "1\r\nx\r\n0\r\nDigest: y\r\n\r\n"), kOk, nullptr},
      {"continue", post("Expect: 100-continue\r\nContent-Length: 1\r\n", "x"), answer("100 Continue", "") + kOk, nullptr},
      {"early hints", kGet, answer("103 Early Hints", "Link: x\r\n") + kOk, nullptr},
      {"upgrade not taken", get("Connection: Upgrade\r\nUpgrade: websocket\r\n"), kOk, nullptr},
      {"pipelined", kGet + kGet + kGet, kOk + kOk + kOk, nullptr},
      {"keep-alive said aloud", get("Connection: keep-alive\r\n"), answer("200 OK", "Connection: keep-alive\r\nContent-Length: 0\r\n"), nullptr},
      {"odd but legal", "M-SEARCH * HTTP/1.1\r\nHost: a\r\nX: \xc3\xa9 \t \"\r\nEmpty:\r\n\r\n", kOk, nullptr},
      {"basic authentication", get("Authorization: Basic eDp5\r\n"), answer("401 No", "WWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n"), nullptr},
  };
  return all;
}

inline const std::vector<Exchange>& not_understood() {
  static const std::vector<Exchange> all = {
      {"both lengths", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), kOk, "both"},
      {"both lengths, other order", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), kOk, "both"},
      {"two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), kOk, "Content-Length"},
      {"the same length twice", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), kOk, "Content-Length"},
      {"list of lengths", post("Content-Length: 5, 5\r\n", "hello"), kOk, "Content-Length"},
      {"negative length", post("Content-Length: -5\r\n", "hello"), kOk, "Content-Length"},
      {"plus length", post("Content-Length: +5\r\n", "hello"), kOk, "Content-Length"},
      {"hex length", post("Content-Length: 0x5\r\n", "hello"), kOk, "Content-Length"},
      {"empty length", post("Content-Length: \r\n", ""), kOk, "Content-Length"},
      {"length beyond everything", post("Content-Length: 99999999999999999999\r\n", ""), kOk, "Content-Length"},
      {"length with a space behind", post("Content-Length: 5 \r\n", "hello"), kOk, "Content-Length"},
      {"length with a tab", post("Content-Length:\t5\r\n", "hello"), kOk, "Content-Length"},
      {"space before the colon", post("Content-Length : 5\r\n", "hello"), kOk, "header line"},
      {"encodings", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), kOk, "Transfer-Encoding"},
      {"encoding twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), kOk, "Transfer-Encoding"},
      {"encoding in disguise", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), kOk, "Transfer-Encoding"},
      {"encoding with a vertical tab",
       post("Transfer-Encoding: \x0b"
            "chunked\r\n",
            "0\r\n\r\n"),
       kOk, "control"},
      {"identity", post("Transfer-Encoding: identity\r\n", ""), kOk, "Transfer-Encoding"},
      {"folded", "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", kOk, "header line"},
      {"bare LF", "GET / HTTP/1.1\nHost: a\n\n", kOk, "LF without CR"},
      {"one bare LF", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", kOk, "LF without CR"},
      {"bare CR", "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", kOk, "control"},
      {"NUL", std::string("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", 29), kOk, "control"},
      {"leading empty line", "\r\n" + kGet, kOk, "not HTTP/1.1"},
      {"no version", "GET /\r\n\r\n", kOk, "not HTTP/1.1"},
      {"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", kOk, "not HTTP/1.1"},
      {"space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", kOk, "not HTTP/1.1"},
      {"lower-case version", "GET / http/1.1\r\nHost: a\r\n\r\n", kOk, "not HTTP/1.1"},
      {"HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", kOk, "HTTP/1.0"},
      {"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", "HTTP/2"},
      {"TLS", "\x16\x03\x01\x02\n", "", "LF without CR"},
      {"no name", "GET / HTTP/1.1\r\n: a\r\n\r\n", kOk, "header line"},
      {"no colon", "GET / HTTP/1.1\r\nHost\r\n\r\n", kOk, "header line"},
      {"name with a space", "GET / HTTP/1.1\r\nHo st: a\r\n\r\n", kOk, "header line"},
      {"tunnel", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", kOk, "CONNECT"},
      {"chunk extension", post("Transfer-Encoding: chunked\r\n", "5;a=b\r\nhello\r\n0\r\n\r\n"), kOk, "chunk"},
      {"chunk size with a space", post("Transfer-Encoding: chunked\r\n", "5 \r\nhello\r\n0\r\n\r\n"), kOk, "chunk"},
      {"chunk size with 0x", post("Transfer-Encoding: chunked\r\n", "0x5\r\nhello\r\n0\r\n\r\n"), kOk, "chunk"},
      {"negative chunk", post("Transfer-Encoding: chunked\r\n", "-1\r\nhello\r\n0\r\n\r\n"), kOk, "chunk"},
      {"huge chunk", post("Transfer-Encoding: chunked\r\n", "ffffffffffffffff\r\nhello"), kOk, "chunk"},
      {"chunk longer than said", post("Transfer-Encoding: chunked\r\n", "4\r\nhello\r\n0\r\n\r\n"), kOk, "LF without CR|longer"},
      {"chunk line with LF only", post("Transfer-Encoding: chunked\r\n", "5\nhello\r\n0\r\n\r\n"), kOk, "LF without CR"},
      {"length in a trailer", post("Transfer-Encoding: chunked\r\n", "0\r\nContent-Length: 5\r\n\r\n"), kOk, "Content-Length"},
      {"other expectation", post("Expect: magic\r\nContent-Length: 1\r\n", "x"), kOk, "expectation"},
      {"NTLM", get("Authorization: NTLM TlRMTVNTUAAB\r\n"), kOk, "NTLM"},
      {"Negotiate offered", kGet, answer("401 No", "WWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n"), "Negotiate"},
      {"long head", get("X: " + std::string(kMaxHead, 'x') + "\r\n"), kOk, "head of more"},
      {"long head in lines",
       [] {
         std::string many;
         for (int i = 0; i < 1000; ++i) many += "X: y\r\n";
         return get(many);
       }(),
       kOk, "head of more"},
      {"close asked for", get("Connection: close\r\n"), kOk, "last request"},
      {"close in a list", get("Connection: TE, Close\r\n"), kOk, "last request"},
      {"server first", "", "220 mail\r\n", "without having been asked"},
      {"answered twice", kGet, kOk + kOk, "without having been asked"},
      {"answer in HTTP/1.0", kGet, "HTTP/1.0 200 OK\r\n\r\nhi", "HTTP/1.0"},
      {"answer without a head", kGet, "hi there, this is HTTP/0.9\r\n", "not HTTP/1.1"},
      {"answer until the end", kGet, answer("200 OK", "Date: x\r\n", "hi"), "ends with the connection"},
      {"answer closes", kGet, answer("200 OK", "Connection: close\r\nContent-Length: 2\r\n", "hi"), "last answer"},
      {"answer with both", kGet, answer("200 OK", "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), "both"},
      {"status of two digits", kGet, "HTTP/1.1 20 OK\r\n\r\n", "not HTTP/1.1"},
      {"no space behind the status", kGet, "HTTP/1.1 200\r\n\r\n", "not HTTP/1.1"},
      {"no content, and some", kGet, answer("204 No Content", "Content-Length: 2\r\n", "hi"), "without content"},
      {"interim with content", kGet, answer("103 Early Hints", "Content-Length: 2\r\n", "hi") + kOk, "interim"},
      {"WebSocket", get("Connection: Upgrade\r\nUpgrade: websocket\r\n"), answer("101 Switching Protocols", "Upgrade: websocket\r\n", "\x81\x02hi"),
       "WebSocket"},
      {"switched unasked", kGet, answer("101 Switching Protocols", "Upgrade: x\r\n"), "upgraded"},
      {"refused instead of continued", "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
       answer("417 No", "Content-Length: 0\r\n"), "100 Continue"},
  };
  return all;
}

}  // namespace gecko::proxy::test
