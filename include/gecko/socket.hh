// One connection between a client and the group, wherever it lives.
//
// After a move every call returns Errc::moved: close the socket (or let it go out of scope), nothing else is to be done; whatever was
// written successfully reaches the client. After a failed move it goes on as if nothing had happened.
//
// Movable, not copyable; the destructor closes the connection. All functions may be called by several threads at once; moving or
// destroying the object while another thread is inside a call on it is an error: use end() there.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gecko/error.hh>

namespace gecko {

using Timeout = std::chrono::milliseconds;
inline constexpr Timeout kForever{-1};

// Of a connection whose node has died (gecko.h has the whole story). Offsets are bytes since its birth.
struct LastCheckpoint {
  std::vector<uint8_t> state;
  uint64_t input = 0, output = 0;   // read and written when it was made
};
struct Recovery {
  using Checkpoint = LastCheckpoint;
  uint64_t received = 0;   // taken by the dead node: the next byte read is the one after
  uint64_t sent = 0;       // received by the client: the next byte written must be the one after
  std::optional<Checkpoint> checkpoint;
};

class Socket {
 public:
  Socket() = default;
  explicit Socket(gecko_socket* handle) : handle_(handle) {}   // takes it over
  Socket(Socket&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Socket& operator=(Socket&& other) noexcept {
    if (this != &other) {
      close();
      handle_ = std::exchange(other.handle_, nullptr);
    }
    return *this;
  }
  ~Socket() { close(); }

  explicit operator bool() const { return handle_ != nullptr; }
  gecko_socket* handle() const { return handle_; }
  gecko_socket* release() { return std::exchange(handle_, nullptr); }

  // Bytes; 0 from read: end of the stream. Non-blocking: Errc::again. A blocking write writes everything, less only if the connection moves
  // or ends meanwhile.
  Result<size_t> read(void* buffer, size_t size) { return count(gecko_socket_read(handle_, buffer, size)); }
  // What read() would give, left where it is; Errc::again: nothing. Never waits.
  Result<size_t> peek(void* buffer, size_t size) const { return count(gecko_socket_peek(handle_, buffer, size)); }
  Result<size_t> write(const void* data, size_t size) { return count(gecko_socket_write(handle_, data, size)); }
  Result<size_t> write(std::string_view text) { return write(text.data(), text.size()); }
  Result<size_t> readv(const iovec* parts, int parts_count) { return count(gecko_socket_readv(handle_, parts, parts_count)); }
  Result<size_t> writev(const iovec* parts, int parts_count) { return count(gecko_socket_writev(handle_, parts, parts_count)); }
  // poll(2) that a move interrupts. 0: timeout, or a move was postponed: is_postponed().
  Result<short> wait(short poll_events, Timeout timeout = kForever) {
    const int rc = gecko_socket_wait(handle_, poll_events, static_cast<int>(timeout.count()));
    if (rc < 0) return detail::last_error(rc);
    return static_cast<short>(rc);
  }
  Status set_blocking(bool blocking) { return detail::status(gecko_socket_set_blocking(handle_, blocking)); }
  bool is_blocking() const { return gecko_socket_is_blocking(handle_) != 0; }
  Status shutdown(int how) { return detail::status(gecko_socket_shutdown(handle_, how)); }
  void end() { gecko_socket_end(handle_); }                    // closes the connection, keeps the object
  void close() { gecko_socket_close(std::exchange(handle_, nullptr)); }

  std::string peer_name() const { return gecko_socket_peer_text(handle_); }     // "[2001:db8::1]:4711"
  std::string local_name() const { return gecko_socket_local_text(handle_); }
  sockaddr_storage peer_address() const {
    sockaddr_storage name{};
    gecko_socket_peer_name(handle_, &name);
    return name;
  }
  std::string id() const {                                     // 32 hex digits, the same on every node
    uint8_t raw[16];
    gecko_socket_id(handle_, raw);
    std::string text;
    for (const uint8_t byte : raw) {
      text += "0123456789abcdef"[byte >> 4];
      text += "0123456789abcdef"[byte & 15];
    }
    return text;
  }
  std::string from() const { return gecko_socket_from(handle_); }   // node it came from; empty: a new client
  bool is_moved() const { return gecko_socket_state(handle_) == GECKO_SOCKET_MOVED; }
  int fd() const { return gecko_socket_fd(handle_); }          // for options; poll and epoll only through wait() and watch()

  // Registers the socket in the application's epoll (data.u64 = data) or changes the registration; the library keeps it right across
  // moves and wakes the loop with EPOLLHUP when the connection has moved.
  Status watch(int epoll_fd, uint32_t events, uint64_t data) { return detail::status(gecko_socket_watch(handle_, epoll_fd, events, data)); }
  void unwatch() { gecko_socket_unwatch(handle_); }

  // The application's state (at most 1 MiB) travels with the connection.
  Status set_state(std::span<const uint8_t> state) { return detail::status(gecko_socket_set_state(handle_, state.data(), state.size())); }
  std::vector<uint8_t> state() const {
    std::vector<uint8_t> bytes(gecko_socket_get_state(handle_, nullptr, 0));
    bytes.resize(std::min(bytes.size(), gecko_socket_get_state(handle_, bytes.data(), bytes.size())));
    return bytes;
  }
  // For the day this node dies: the state after all that was read and written so far, kept by other nodes until the next one. No other thread reads
  // or writes meanwhile. A connection that has moved needs a new one.
  Status checkpoint(std::span<const uint8_t> state) { return detail::status(gecko_socket_checkpoint(handle_, state.data(), state.size())); }
  // Of a connection that accept() returned because its node has died.
  std::optional<Recovery> recovery() const {
    gecko_recovery raw{};
    raw.size = sizeof raw;
    if (gecko_socket_recovery(handle_, &raw) == 0) return std::nullopt;
    Recovery recovery{raw.received, raw.sent, {}};
    if (raw.has_checkpoint == 0) return recovery;
    recovery.checkpoint.emplace();
    auto& [state, input, output] = *recovery.checkpoint;
    state.resize(gecko_socket_get_checkpoint(handle_, nullptr, 0));
    (void)gecko_socket_get_checkpoint(handle_, state.data(), state.size());
    input = raw.input;
    output = raw.output;
    return recovery;
  }
  // Bytes since its birth, on whatever nodes: read, written.
  Result<std::pair<uint64_t, uint64_t>> offsets() const {
    std::pair<uint64_t, uint64_t> at;
    const int rc = gecko_socket_offsets(handle_, &at.first, &at.second);
    if (rc < 0) return detail::last_error(rc);
    return at;
  }

  // Called when the connection is about to leave, with reads and writes locked out: set_state() here and return true, or false to keep
  // it. The thread is the library's choice (event-loop mode: inside dispatch() or handoff()). Never wait there for a thread that may be
  // inside a call on this socket: try_lock and return false. The Socket given is this connection, valid during the call.
  void on_yield(std::function<bool(Socket&)> callback) {
    using Callback = std::function<bool(Socket&)>;
    if (!callback) {
      gecko_socket_on_yield(handle_, nullptr, nullptr, nullptr);
      return;
    }
    gecko_socket_on_yield(
        handle_,
        [](void* arg, gecko_socket* handle) noexcept {
          Socket socket(handle);
          const bool go = (*static_cast<Callback*>(arg))(socket);
          (void)socket.release();
          return go ? 1 : 0;
        },
        new Callback(std::move(callback)), [](void* arg) noexcept { delete static_cast<Callback*>(arg); });
  }
  void set_movable(bool movable) { gecko_socket_set_movable(handle_, movable); }
  void stay(const std::string& reason) { gecko_socket_stay(handle_, reason.c_str()); }   // set_movable(false), and operators are told why
  // "Not now, it follows by itself": inside on_yield, `return s.postpone("a request is in progress");`. When the moment has come and
  // is_postponed(), handoff_in_background() without a target takes the connection to where it was asked for.
  bool postpone(const std::string& reason) { return gecko_socket_postpone(handle_, reason.c_str()) != 0; }
  bool is_postponed() const { return gecko_socket_is_postponed(handle_) != 0; }

  // Waits for the outcome. Without a target: by the policy, else geckod chooses. Errc::timeout: still on its way.
  Status handoff(const std::string& target = {}, Timeout timeout = kForever) {
    return detail::status(gecko_socket_handoff(handle_, target.c_str(), static_cast<int>(timeout.count())));
  }
  // Returns at once. A failed target is reported to the policy, which chooses another: three in all.
  Status handoff_in_background(const std::string& target = {}) { return detail::status(gecko_socket_handoff_background(handle_, target.c_str())); }

 private:
  static Result<size_t> count(ssize_t n) {
    if (n < 0) return detail::last_error(n);
    return static_cast<size_t>(n);
  }
  gecko_socket* handle_ = nullptr;
};

}  // namespace gecko
