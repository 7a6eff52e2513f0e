// The C ABI of connection passing (include/gecko/tcp.h): translates, catches, remembers the last error.
#include "gecko/tcp.h"

#include <memory>
#include <new>
#include <string>
#include <type_traits>

#include "tcp/connection.hh"

using gecko::Errc;
using gecko::Error;
namespace tcp = gecko::tcp;
namespace wire = gecko::wire;

struct gecko_tcp_state {
  wire::TcpState state;
  std::string name;
};

namespace {

thread_local std::string last_error;

int failed(const Error& error) {
  last_error = error.message;
  return -static_cast<int>(error.code);
}

// No exception leaves the library: what throws below is memory running out.
template <class Call>
auto guarded(Call call) -> decltype(call()) {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    try {
      last_error = "out of memory";
    } catch (...) {
      last_error.clear();
    }
    return GECKO_TCP_E_LIMIT;
  } catch (...) {
    last_error.clear();
    return GECKO_TCP_E_INTERNAL;
  }
}

static_assert(sizeof(tcp::Frozen) <= sizeof(gecko_tcp_frozen), "the C struct must hold ours, now and with room to grow");
static_assert(std::is_trivially_copyable_v<tcp::Frozen>);
static_assert(GECKO_TCP_E_VERSION == -static_cast<int>(Errc::version) && GECKO_TCP_E_EXISTS == -static_cast<int>(Errc::exists) &&
              GECKO_TCP_E_CLOSED == -static_cast<int>(Errc::closed) && GECKO_TCP_E_UNSUPPORTED == -static_cast<int>(Errc::unsupported) &&
              GECKO_TCP_E_LIMIT == -static_cast<int>(Errc::limit) && GECKO_TCP_E_PERMISSION == -static_cast<int>(Errc::permission) &&
              GECKO_TCP_E_UNAVAILABLE == -static_cast<int>(Errc::unavailable) && GECKO_TCP_E_BUSY == -static_cast<int>(Errc::busy) &&
              GECKO_TCP_E_INVALID == -static_cast<int>(Errc::invalid) && GECKO_TCP_E_INTERNAL == -static_cast<int>(Errc::internal));

tcp::Frozen frozen_of(const gecko_tcp_frozen* from) {
  tcp::Frozen frozen;
  std::memcpy(static_cast<void*>(&frozen), from, sizeof frozen);
  return frozen;
}

class Callbacks final : public tcp::Injector {
 public:
  explicit Callbacks(const gecko_tcp_injector& calls) : calls_(calls) {}
  gecko::Status to_local(wire::ByteView packet) override { return done(calls_.to_local(calls_.context, packet.data(), packet.size())); }
  gecko::Status to_peer(wire::ByteView packet) override { return done(calls_.to_peer(calls_.context, packet.data(), packet.size())); }

 private:
  static gecko::Status done(int result) {
    if (result == 0) return {};
    return gecko::os_error("the injector given to gecko_tcp_activate failed");
  }
  const gecko_tcp_injector& calls_;
};

}  // namespace

extern "C" {

const char* gecko_tcp_strerror(int code) {
  if (code >= 0) return "success";
  if (code < -static_cast<int>(Errc::version)) return "unknown";
  return gecko::to_string(static_cast<Errc>(-code)).data();  // a literal: ends with NUL
}

const char* gecko_tcp_last_error() { return last_error.c_str(); }

int gecko_tcp_prepare() { return tcp::prepare() ? 1 : 0; }

int gecko_tcp_freeze(int fd, gecko_tcp_frozen* frozen) {
  return guarded([&] {
    const auto result = tcp::freeze(fd);
    if (!result) return failed(result.error());
    *frozen = {};
    std::memcpy(frozen, &*result, sizeof *result);
    return 0;
  });
}

int gecko_tcp_capture(int fd, const gecko_tcp_frozen* frozen, gecko_tcp_state** state) {
  *state = nullptr;
  return guarded([&] {
    auto result = tcp::capture(fd, frozen_of(frozen));
    if (!result) return failed(result.error());
    auto made = std::make_unique<gecko_tcp_state>();
    made->name = result->flow.str();
    made->state = *std::move(result);
    *state = made.release();
    return 0;
  });
}

int gecko_tcp_thaw(int fd, const gecko_tcp_frozen* frozen) {
  return guarded([&] {
    const auto done = tcp::thaw(fd, frozen_of(frozen));
    return done ? 0 : failed(done.error());
  });
}

int gecko_tcp_retire(int fd) {
  return guarded([&] {
    const auto done = tcp::retire(fd);
    return done ? 0 : failed(done.error());
  });
}

int gecko_tcp_restore(const gecko_tcp_state* state, unsigned flags) {
  return guarded([&] {
    if (flags & ~GECKO_TCP_FREEBIND) return failed(gecko::make_error(Errc::invalid, "gecko_tcp_restore: unknown flags " + std::to_string(flags)));
    auto result = tcp::restore(state->state, {.freebind = (flags & GECKO_TCP_FREEBIND) != 0});
    return result ? result->release() : failed(result.error());
  });
}

int gecko_tcp_activate(int fd, const gecko_tcp_state* state, const gecko_tcp_injector* injector, size_t* unsent) {
  return guarded([&] {
    std::unique_ptr<tcp::Injector> own;
    if (injector) {
      own = std::make_unique<Callbacks>(*injector);
    } else {
      auto raw = tcp::make_raw_injector();
      if (!raw) return failed(raw.error());
      own = *std::move(raw);
    }
    const auto result = tcp::activate(fd, state->state, *own);
    if (!result) return failed(result.error());
    if (unsent) *unsent = result->unsent.size();
    if (!unsent && !result->unsent.empty())
      return failed(gecko::make_error(Errc::limit, "TCP connection " + state->name + ": the kernel did not take its last " +
                                                       std::to_string(result->unsent.size()) + " unsent bytes"));
    return 0;
  });
}

int64_t gecko_tcp_drain(int fd, int timeout_ms, uint32_t max_left) {
  return guarded([&]() -> int64_t {
    const auto result = tcp::drain(fd, std::chrono::milliseconds(timeout_ms), max_left);
    return result ? static_cast<int64_t>(result->bytes_left) : failed(result.error());
  });
}

size_t gecko_tcp_encode(const gecko_tcp_state* state, void* to, size_t size) {
  try {
    const wire::Bytes bytes = wire::encode(state->state);
    if (bytes.size() <= size) std::memcpy(to, bytes.data(), bytes.size());
    return bytes.size();
  } catch (...) {
    return SIZE_MAX;  // out of memory: no buffer is large enough
  }
}

int gecko_tcp_decode(const void* from, size_t size, gecko_tcp_state** state) {
  *state = nullptr;
  return guarded([&] {
    auto result = wire::decode<wire::TcpState>({static_cast<const uint8_t*>(from), size});
    if (!result) return failed(result.error());
    if (const auto valid = wire::validate(*result); !valid) return failed(valid.error());
    auto made = std::make_unique<gecko_tcp_state>();
    made->name = result->flow.str();
    made->state = *std::move(result);
    *state = made.release();
    return 0;
  });
}

void gecko_tcp_state_free(gecko_tcp_state* state) { delete state; }

const void* gecko_tcp_send_queue(const gecko_tcp_state* state, size_t* size) {
  *size = state->state.send_queue.size();
  return state->state.send_queue.data();
}

const void* gecko_tcp_recv_queue(const gecko_tcp_state* state, size_t* size) {
  *size = state->state.recv_queue.size();
  return state->state.recv_queue.data();
}

int gecko_tcp_fin_sent(const gecko_tcp_state* state) { return state->state.fin_sent ? 1 : 0; }

const char* gecko_tcp_name(const gecko_tcp_state* state) { return state->name.c_str(); }

}  // extern "C"
