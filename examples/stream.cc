// gecko-stream: an HTTP/1.1 server whose connections move in the middle of downloads and uploads.
//
//   GET /bytes/N[?seed=S]  N deterministic bytes (pattern.hh)
//   PUT, POST /sink        reads anything, answers {"bytes":N,"sha256":"..."}
//   GET /                  a small page
//
// The whole state of a connection (parser, running SHA-256, offset in a download, output not yet written) fits in a few hundred bytes plus
// input not yet parsed, and travels with it. Every answer names the node that began it: X-Gecko-Node.
//
// If its node dies, a download goes on at its exact byte: a checkpoint is made when a request has been read, and what the client has received of the
// answer says the rest. So does an upload in a group with recovery = "replicated": what was read since the checkpoint is read once more, which is why
// one is made every now and then. With "fast" (or --fast) an upload ends with its node: what it had sent is gone.
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <charconv>
#include <chrono>
#include <cstring>
#include <set>

#include "event_server.hh"
#include "http.hh"
#include "pattern.hh"
#include "sha256.hh"

namespace {

constexpr char kProgram[] = "gecko-stream";
constexpr size_t kChunk = 64 * 1024;
constexpr uint8_t kStateVersion = 2;
// Bytes the kernel has not sent yet move with the connection: few of them make a move short.
constexpr int kNotSentLow = 128 * 1024;
// A checkpoint follows so many bytes of a body, read or written: they are what an heir repeats, and backups keep no more than 4 MiB of them.
constexpr uint64_t kBetweenCheckpoints = 1u << 20;
// What one connection may do before others get their turn.
constexpr int kRounds = 32;
// After a refusal: how much of what the client still sends is read and dropped so that it sees the answer and not a reset.
constexpr uint64_t kMaxDiscard = 256u << 20;

using Clock = std::chrono::steady_clock;

class StreamConnection;
struct Context {
  std::string node;
  std::chrono::milliseconds every{0};
  std::set<std::pair<Clock::time_point, StreamConnection*>> next_moves;
};

// Little-endian numbers and length-prefixed strings, for the state that travels.
struct Packer {
  std::vector<uint8_t> out;
  void number(uint64_t value) {
    for (int i = 0; i < 8; ++i) out.push_back(static_cast<uint8_t>(value >> (8 * i)));
  }
  void bytes(const void* data, size_t size) {
    const auto* p = static_cast<const uint8_t*>(data);
    out.insert(out.end(), p, p + size);
  }
  void text(const std::string& text) {
    number(text.size());
    bytes(text.data(), text.size());
  }
};
struct Unpacker {
  const std::vector<uint8_t>& in;
  size_t at = 0;
  bool ok = true;
  bool bytes(void* to, size_t size) {
    if (!ok || size > in.size() - at) return ok = false;
    std::memcpy(to, in.data() + at, size);
    at += size;
    return true;
  }
  uint64_t number() {
    uint8_t raw[8] = {};
    bytes(raw, 8);
    uint64_t value = 0;
    for (int i = 0; i < 8; ++i) value |= static_cast<uint64_t>(raw[i]) << (8 * i);
    return value;
  }
  std::string text() {
    const uint64_t size = number();
    if (!ok || size > in.size() - at) return ok = false, std::string();
    std::string result(reinterpret_cast<const char*>(in.data()) + at, static_cast<size_t>(size));
    at += static_cast<size_t>(size);
    return result;
  }
};

class StreamConnection {
 public:
  StreamConnection(gecko::Socket socket, Context& context) : socket_(std::move(socket)), context_(context) {}
  ~StreamConnection() { context_.next_moves.erase({next_move_, this}); }

  bool start(int epoll, uint64_t key) {
    epoll_ = epoll;
    key_ = key;
    if (const auto death = socket_.recovery()) {
      if (!resume(*death)) return false;
    } else if (const auto state = socket_.state(); !state.empty() && !unpack(state)) {
      return false;
    }
    setsockopt(socket_.fd(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &kNotSentLow, sizeof kNotSentLow);
    socket_.on_yield([this](gecko::Socket& socket) { return socket.set_state(pack()).has_value(); });
    schedule_move();
    save();
    return ready(0);
  }

  bool ready(uint32_t) {
    for (int round = 0; round < kRounds; ++round) {
      switch (step()) {
        case Step::again: continue;
        case Step::over: return false;
        case Step::read: return want(EPOLLIN);
        case Step::write: return want(EPOLLOUT);
      }
    }
    return want(EPOLLIN | EPOLLOUT);  // level-triggered: goes on in the next round of the loop
  }

  void move() {
    (void)socket_.handoff_in_background();  // nobody can take it: it stays for another period
    schedule_move();
  }

 private:
  enum class Step { again, read, write, over };

  // One small piece of work: output first, then parsing, then input.
  Step step() {
    if (out_at_ < out_.size()) return write_head();
    if (stream_left_ != 0) return write_stream();
    if (closing_) return discard();
    if (!body_.done()) {
      if (auto parsed = parse_body()) return *parsed;
    } else if (const size_t end = in_.find("\r\n\r\n"); end != std::string::npos) {
      const std::string head = in_.substr(0, end);
      in_.erase(0, end + 4);
      said_.clear();  // the last answer has been written: output comes first
      begin_request(head);
      save();
      return Step::again;
    } else if (in_.size() > example::kMaxHead) {
      refuse(431);
      save();
      return Step::again;
    }
    return read_input();
  }

  Step failed(const gecko::Error& error, Step blocked) { return error.code == gecko::Errc::again ? blocked : Step::over; }

  Step write_head() {
    const auto n = socket_.write(out_.data() + out_at_, out_.size() - out_at_);
    if (!n) return failed(n.error(), Step::write);
    out_at_ += *n;
    if (out_at_ == out_.size()) out_.clear(), out_at_ = 0;
    return Step::again;
  }

  Step write_stream() {
    uint8_t buffer[kChunk];
    const auto size = static_cast<size_t>(std::min<uint64_t>(stream_left_, sizeof buffer));
    example::fill_pattern(seed_, stream_at_, buffer, size);
    const auto n = socket_.write(buffer, size);
    if (!n) return failed(n.error(), Step::write);
    stream_at_ += *n;
    stream_left_ -= *n;
    save_after(*n);
    return Step::again;
  }

  Step read_input() {
    char buffer[kChunk];
    const auto n = socket_.read(buffer, sizeof buffer);
    if (!n) return failed(n.error(), Step::read);
    if (*n == 0) return Step::over;
    in_.append(buffer, *n);
    return Step::again;
  }

  Step discard() {
    if (!shut_) {
      if (const auto ended = socket_.shutdown(SHUT_WR); !ended) return failed(ended.error(), Step::write);
      shut_ = true;
    }
    in_.clear();
    char buffer[kChunk];
    const auto n = socket_.read(buffer, sizeof buffer);
    if (!n) return failed(n.error(), Step::read);
    discarded_ += *n;
    return *n == 0 || discarded_ > kMaxDiscard ? Step::over : Step::again;
  }

  std::optional<Step> parse_body() {
    size_t used = 0;
    std::string_view data;
    const std::string_view input = std::string_view(in_).substr(in_at_);
    if (!body_.next(input, used, data)) {
      refuse(400);
      save();
      return Step::again;
    }
    sha_.update(data.data(), data.size());
    in_at_ += used;
    if (in_at_ == in_.size() || body_.done()) {
      in_.erase(0, in_at_);
      in_at_ = 0;
    }
    if (body_.done()) {
      respond(200, "application/json", "{\"bytes\":" + std::to_string(sha_.state().bytes) + ",\"sha256\":\"" + sha_.hex() + "\"}\n", true);
      save();
      return Step::again;
    }
    save_after(data.size());
    if (used != 0) return Step::again;
    return std::nullopt;
  }

  void begin_request(const std::string& text) {
    example::RequestHead head;
    if (const int status = example::parse_head(text, head); status != 0) return refuse(status);
    keep_alive_ = head.keep_alive;
    const bool get = head.method == "GET" || head.method == "HEAD", put = head.method == "PUT" || head.method == "POST";
    const bool has_body = head.chunked || head.length != 0;
    const std::string path = head.target.substr(0, head.target.find('?'));
    if (path == "/sink") {
      if (!put) return refuse(405, "Allow: PUT, POST\r\n");
      if (!head.chunked && !head.has_length) return refuse(411);
      sha_ = {};
      body_.begin(head);
      if (head.expects_continue && !body_.done()) say("HTTP/1.1 100 Continue\r\n\r\n");
      if (body_.done()) respond(200, "application/json", "{\"bytes\":0,\"sha256\":\"" + sha_.hex() + "\"}\n", true);
      return;
    }
    if (path != "/" && !path.starts_with("/bytes/")) return has_body ? refuse(404) : respond(404, "text/plain", "not found\n", head.method != "HEAD");
    if (!get) return refuse(405, "Allow: GET, HEAD\r\n");
    if (has_body) return refuse(400);
    if (path == "/") {
      return respond(200, "text/html; charset=utf-8",
                     "<!doctype html><title>gecko-stream</title><p>You are served by node <b>" + context_.node +
                         "</b>.<p><a href=\"/bytes/1000000\">/bytes/N?seed=S</a> streams N bytes; PUT /sink counts and hashes what it gets.\n",
                     head.method != "HEAD");
    }
    uint64_t size = 0, seed = 0;
    const auto number = [](std::string_view digits, uint64_t& value) {
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
      return error == std::errc{} && end == digits.data() + digits.size() && !digits.empty();
    };
    const std::string query = head.target.substr(path.size());
    const bool seeded = query.empty() || (query.starts_with("?seed=") && number(std::string_view(query).substr(6), seed));
    if (!seeded || !number(std::string_view(path).substr(7), size))
      return respond(400, "text/plain", "write /bytes/N or /bytes/N?seed=S with decimal numbers\n", head.method != "HEAD");
    say(head_text(200, "application/octet-stream", size, ""));
    seed_ = seed;
    stream_at_ = 0;
    stream_left_ = head.method == "HEAD" ? 0 : size;
    closing_ = !keep_alive_;
  }

  std::string head_text(int status, const char* type, uint64_t length, const char* extra) const {
    const char* reason = status == 200 ? "OK" : status == 400 ? "Bad Request" : status == 404 ? "Not Found" : status == 405 ? "Method Not Allowed"
                         : status == 411 ? "Length Required" : status == 417 ? "Expectation Failed" : status == 431 ? "Request Header Fields Too Large"
                         : status == 501 ? "Not Implemented" : status == 505 ? "HTTP Version Not Supported" : "Error";
    return "HTTP/1.1 " + std::to_string(status) + " " + reason + "\r\nX-Gecko-Node: " + context_.node + "\r\nContent-Type: " + type +
           "\r\nContent-Length: " + std::to_string(length) + "\r\n" + extra + (keep_alive_ ? "" : "Connection: close\r\n") + "\r\n";
  }
  void respond(int status, const char* type, const std::string& body, bool with_body) {
    say(head_text(status, type, body.size(), ""));
    if (with_body) say(body);
    closing_ = !keep_alive_;
  }
  // The rest of what the client sends cannot be understood: answer, then end.
  void refuse(int status, const char* extra = "") {
    keep_alive_ = false;
    const std::string body = "error " + std::to_string(status) + "\n";
    say(head_text(status, "text/plain", body.size(), extra) + body);
    closing_ = true;
    body_ = {};
  }

  void say(const std::string& text) {
    out_ += text;
    said_ += text;
  }

  // Goes to the byte of the present answer that the client waits for. False: bytes are missing that cannot be made again, the client's or of an
  // earlier answer.
  bool resume(const gecko::Recovery& death) {
    if (!death.checkpoint || death.received != death.checkpoint->input || !unpack(death.checkpoint->state)) return false;
    const uint64_t written = said_.size() - (out_.size() - out_at_) + stream_at_, all = said_.size() + stream_at_ + stream_left_;
    const uint64_t at = written + (death.sent - death.checkpoint->output);  // may go back
    if (at > all) return false;
    out_ = at < said_.size() ? said_.substr(at) : "";
    out_at_ = 0;
    const uint64_t stream = stream_at_ + stream_left_;
    stream_at_ = at < said_.size() ? 0 : at - said_.size();
    stream_left_ = stream - stream_at_;
    return true;
  }

  // Also whenever something has been said, before it is written: it names this node, an heir would say it differently, and what is written goes out only
  // when the checkpoint before it is with the backups.
  void save() {
    since_saved_ = 0;
    (void)socket_.checkpoint(pack());
  }
  void save_after(uint64_t bytes) {
    since_saved_ += bytes;
    if (since_saved_ >= kBetweenCheckpoints) save();
  }

  bool want(uint32_t events) {
    if (events == watched_) return true;
    watched_ = events;
    return socket_.watch(epoll_, events, key_).has_value();
  }

  void schedule_move() {
    context_.next_moves.erase({next_move_, this});
    if (context_.every.count() == 0) return;
    next_move_ = Clock::now() + context_.every;
    context_.next_moves.insert({next_move_, this});
  }

  std::vector<uint8_t> pack() const {
    Packer p;
    p.out.push_back(kStateVersion);
    p.number(static_cast<uint64_t>(body_.phase));
    for (const uint64_t n : {body_.left, seed_, stream_at_, stream_left_, discarded_}) p.number(n);
    p.number((keep_alive_ ? 1u : 0u) | (closing_ ? 2u : 0u) | (shut_ ? 4u : 0u));
    p.text(in_.substr(in_at_));
    p.text(out_.substr(out_at_));
    p.text(said_);
    const auto& sha = sha_.state();
    for (const uint32_t word : sha.h) p.number(word);
    p.number(sha.bytes);
    p.bytes(sha.block.data(), sha.block.size());
    return std::move(p.out);
  }
  bool unpack(const std::vector<uint8_t>& state) {
    Unpacker u{state};
    uint8_t version = 0;
    u.bytes(&version, 1);
    const uint64_t phase = u.number();
    if (version != kStateVersion || phase > static_cast<uint64_t>(example::BodyReader::Phase::trailers)) return false;
    body_.phase = static_cast<example::BodyReader::Phase>(phase);
    for (uint64_t* n : {&body_.left, &seed_, &stream_at_, &stream_left_, &discarded_}) *n = u.number();
    const uint64_t flags = u.number();
    keep_alive_ = (flags & 1) != 0;
    closing_ = (flags & 2) != 0;
    shut_ = (flags & 4) != 0;
    in_ = u.text();
    out_ = u.text();
    said_ = u.text();
    if (said_.size() < out_.size()) return false;
    example::Sha256::State sha;
    for (uint32_t& word : sha.h) word = static_cast<uint32_t>(u.number());
    sha.bytes = u.number();
    u.bytes(sha.block.data(), sha.block.size());
    sha_ = example::Sha256(sha);
    return u.ok && u.at == state.size();
  }

  gecko::Socket socket_;
  Context& context_;
  int epoll_ = -1;
  uint64_t key_ = 0;
  uint32_t watched_ = 0;
  Clock::time_point next_move_{};

  std::string in_, out_;
  std::string said_;  // of the present answer, all but its stream
  size_t in_at_ = 0, out_at_ = 0;
  example::BodyReader body_;
  example::Sha256 sha_;
  uint64_t seed_ = 0, stream_at_ = 0, stream_left_ = 0;
  uint64_t discarded_ = 0;
  uint64_t since_saved_ = 0;
  bool keep_alive_ = true, closing_ = false, shut_ = false;
};

void usage(FILE* to) {
  std::fprintf(to,
               "usage: %s -g GROUP [-p PORT] [--every SECONDS] [--policy random|round-robin|least-connections] [--fast]\n"
               "  -g, --group GROUP    the group's file or name\n"
               "  -p, --port PORT      default: the group's first port\n"
               "      --every SECONDS  hand every connection to another node so often (fractions allowed); default 0: never\n"
               "      --policy NAME    which node; default: round-robin\n"
               "      --fast           not replicated, whatever the group file says\n",
               kProgram);
}

}  // namespace

int main(int argc, char** argv) {
  std::string group, policy = "round-robin";
  unsigned long port = 0;
  double every = 0;
  bool fast = false;
  const option options[] = {{"group", required_argument, nullptr, 'g'}, {"port", required_argument, nullptr, 'p'}, {"every", required_argument, nullptr, 'e'},
                            {"policy", required_argument, nullptr, 'P'}, {"fast", no_argument, nullptr, 'f'}, {"help", no_argument, nullptr, 'h'},
                            {"version", no_argument, nullptr, 'V'}, {}};
  for (int c; (c = getopt_long(argc, argv, "g:p:hV", options, nullptr)) != -1;) {
    switch (c) {
      case 'g': group = optarg; break;
      case 'p': port = std::strtoul(optarg, nullptr, 10); break;
      case 'e': every = std::strtod(optarg, nullptr); break;
      case 'P': policy = optarg; break;
      case 'f': fast = true; break;
      case 'h': usage(stdout); return 0;
      case 'V': std::printf("%s %s\n", kProgram, gecko_version()); return 0;
      default: usage(stderr); return 64;
    }
  }
  const auto chosen = example::policy_by_name(policy, false);
  if (group.empty() || optind != argc || port > 65535 || !chosen || !(every >= 0 && every < 1e6)) {
    usage(stderr);
    return 64;
  }
  Context context;
  context.every = std::chrono::milliseconds(static_cast<int64_t>(every * 1000));
  example::EventServer<StreamConnection, Context> server(kProgram, context);
  server.start(group, static_cast<uint16_t>(port), chosen, fast);
  context.node = server.framework().node();
  server.run([&] {
    while (!context.next_moves.empty()) {
      const auto left = context.next_moves.begin()->first - Clock::now();
      if (left > Clock::duration::zero()) return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(left).count());
      context.next_moves.begin()->second->move();
    }
    return -1;
  });
}
