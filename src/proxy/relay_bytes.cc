// A relay's bytes, both ways: copied or spliced, followed by http_boundary, and their ends.
#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "proxy/relay.hh"
#include "proxy/worker.hh"

namespace gecko::proxy {
namespace {

// Splicing pays from here on; below, two copies of data that is in the cache are cheaper than handling pages.
constexpr uint64_t kSpliceLeast = 32 << 10;

}  // namespace

Relay::Io Relay::read(const Way& way, char* to, size_t size, size_t& got) {
  if (is_up(way)) {
    const ssize_t n = gecko_socket_read(client_.handle(), to, size);
    got = n > 0 ? static_cast<size_t>(n) : 0;
    return n > 0 ? Io::done : n == 0 ? Io::end : n == GECKO_AGAIN ? Io::again : n == GECKO_MOVED ? Io::moved : Io::reset;
  }
  for (;;) {
    const ssize_t n = ::recv(server_.get(), to, size, MSG_DONTWAIT);
    got = n > 0 ? static_cast<size_t>(n) : 0;
    if (n < 0 && errno == EINTR) continue;
    return n > 0 ? Io::done : n == 0 ? Io::end : errno == EAGAIN ? Io::again : Io::reset;
  }
}

Relay::Io Relay::write(const Way& way, const char* from, size_t size, size_t& put) {
  if (!is_up(way)) {
    const ssize_t n = gecko_socket_write(client_.handle(), from, size);
    put = n > 0 ? static_cast<size_t>(n) : 0;
    return n >= 0 ? Io::done : n == GECKO_AGAIN ? Io::again : n == GECKO_MOVED ? Io::moved : Io::reset;
  }
  for (;;) {
    const ssize_t n = ::send(server_.get(), from, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    put = n > 0 ? static_cast<size_t>(n) : 0;
    if (n < 0 && errno == EINTR) continue;
    return n >= 0 ? Io::done : errno == EAGAIN ? Io::again : Io::reset;
  }
}

// libgecko moves a connection only inside its dispatch() and handoff calls, which run on this thread: between them the descriptor is the
// connection's.
Relay::Io Relay::splice_in(Way& way, uint64_t at_most, size_t& got) {
  const int from = is_up(way) ? client_fd() : server_.get();
  const ssize_t n = ::splice(from, nullptr, way.pipe.in.get(), nullptr, static_cast<size_t>(std::min<uint64_t>(at_most, way.pipe.size)),
                             SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  got = n > 0 ? static_cast<size_t>(n) : 0;
  way.pipe.filled += got;
  return n > 0 ? Io::done : n == 0 ? Io::end : errno == EAGAIN || errno == EINTR ? Io::again : Io::reset;
}

Relay::Io Relay::splice_out(Way& way, size_t& put) {
  const int to = is_up(way) ? server_.get() : client_fd();
  const ssize_t n = ::splice(way.pipe.out.get(), nullptr, to, nullptr, way.pipe.filled, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  put = n > 0 ? static_cast<size_t>(n) : 0;
  way.pipe.filled -= put;
  return n > 0 ? Io::done : n < 0 && errno != EAGAIN && errno != EINTR ? Io::reset : Io::again;
}

bool Relay::wanted_elsewhere() const { return evacuating_ || client_.is_postponed(); }

bool Relay::may_read(const Way& way) const {
  // Wanted elsewhere: finish what has begun, begin nothing.
  return !is_up(way) || !http_.known() || !http_.between_requests() || http_.ahead() == 0 || !wanted_elsewhere();
}

// How many bytes of the client may be read now; more than one request only while it is wanted nowhere else.
size_t Relay::read_limit(const Way& way) {
  if (!is_up(way) || !http_.known() || !wanted_elsewhere()) return Worker::kScratch;
  const ssize_t n = ::recv(client_fd(), worker_.scratch(), Worker::kScratch, MSG_PEEK | MSG_DONTWAIT);
  if (n <= 0) return Worker::kScratch;
  HttpBoundary ahead = http_;
  return std::max<size_t>(1, ahead.feed(HttpBoundary::Side::request, {worker_.scratch(), static_cast<size_t>(n)}, true));
}

void Relay::follow(const Way& way, std::string_view bytes) {
  const bool known = http_.known();
  const uint64_t answered = http_.answered();
  http_.feed(is_up(way) ? HttpBoundary::Side::request : HttpBoundary::Side::response, bytes);
  worker_.statistics().requests += http_.answered() - answered;
  if (known && !http_.known()) stays();
  if (http_.changes() != saved_changes_) note();
}

// false: it could not take everything.
bool Relay::flush(Way& way) {
  while (!way.idle()) {
    size_t put = 0;
    const bool copied = !way.pending.empty();
    const Io io = copied ? write(way, way.pending.data() + way.pending_at, way.pending.size() - way.pending_at, put) : splice_out(way, put);
    if (io == Io::again) return false;
    if (io != Io::done) {
      write_failed(way, io);
      return false;
    }
    if (!copied) continue;
    way.pending_at += put;
    if (way.pending_at != way.pending.size()) continue;
    way.pending = {};   // memory only where it is needed
    way.pending_at = 0;
  }
  return true;
}

void Relay::pump(Way& way) {
  pump_bytes(way);
  if (way.pipe.size != 0 && way.pipe.filled == 0) {
    worker_.pipes().give_back(std::move(way.pipe));
    way.pipe = {};
  }
}

void Relay::pump_bytes(Way& way) {
  const auto side = is_up(way) ? HttpBoundary::Side::request : HttpBoundary::Side::response;
  uint64_t& counter = is_up(way) ? worker_.statistics().bytes_in : worker_.statistics().bytes_out;
  for (size_t turn = 0; state_ == State::open && !way.broken && flush(way);) {
    if (way.ended) return pass_end(way);
    if (turn >= kTurn || !may_read(way)) return;
    size_t got = 0;
    Io io = Io::done;
    bool drained = false;
    const bool sifted = rest_ && !is_up(way);
    const uint64_t sure = sifted ? 0 : http_.content_ahead(side);   // bytes that nobody has to look at
    if (way.bulk && sure >= kSpliceLeast && way.pipe.size == 0) way.pipe = worker_.pipes().take();
    if (way.bulk && sure >= kSpliceLeast && way.pipe.size != 0) {
      io = splice_in(way, sure, got);
      if (io == Io::done) {
        const uint64_t answered = http_.answered();
        http_.skip(side, got);
        worker_.statistics().requests += http_.answered() - answered;
        if (http_.changes() != saved_changes_) note();
      }
      way.bulk = got >= kSpliceLeast;
      drained = io == Io::again;
    } else {
      const size_t limit = read_limit(way);
      io = read(way, worker_.scratch(), limit, got);
      drained = got < limit;
      way.bulk = got >= kSpliceLeast;
      if (io == Io::done) {
        std::string_view bytes(worker_.scratch(), got);
        if (sifted && !strip_head(bytes)) return;
        follow(way, bytes);
        size_t put = 0;
        const Io out = bytes.empty() ? Io::done : write(way, bytes.data(), bytes.size(), put);
        if (out != Io::done && out != Io::again) return write_failed(way, out);
        if (put != bytes.size()) {
          way.pending.assign(bytes.substr(put));
          way.pending_at = 0;
        }
      }
    }
    if (io == Io::moved) return look_at_move();
    if (io == Io::end || io == Io::reset) {
      way.ended = true;
      way.reset = io == Io::reset;
      continue;
    }
    turn += got;
    counter += got;
    if (got != 0) since_ = worker_.now();
    if (drained) return;
  }
}

void Relay::pass_end(Way& way) {
  if (way.closed) return;
  if (rest_ && !is_up(way)) return cut_off("the new server ended without an answer");
  if (way.reset) {
    ++worker_.statistics().reset;
    return is_up(way) ? abort_server() : abort_client();
  }
  way.closed = true;
  since_ = worker_.now();
  if (is_up(way)) (void)::shutdown(server_.get(), SHUT_WR);
  else (void)client_.shutdown(SHUT_WR);
}

// Nobody takes this way's bytes any more.
void Relay::write_failed(Way& way, Io why) {
  if (why == Io::moved) return look_at_move();
  if (!is_up(way)) {   // the client is gone
    ++worker_.statistics().reset;
    return abort_server();
  }
  // The server has closed, but may have answered before: that still goes to the client, and with it how the server ended.
  way.broken = true;
  way.pending = {};
  way.pipe = {};
}

}  // namespace gecko::proxy
