// Any valid state against a real kernel, in a private network namespace: restore and activate give a socket or an error,
// capture takes out what restore put in, and nothing is left behind. Where user namespaces are not allowed only the state
// format is exercised, and said so.
#include <cstdio>

#include "tcp/connection.hh"
#include "tcp/test_namespace.hh"
#include "wire/test_state.hh"

using namespace gecko;

namespace {

bool have_kernel = false;

// Swallows packets; a re-created FIN has nowhere to arrive here.
class Nowhere final : public tcp::Injector {
 public:
  Status to_local(wire::ByteView) override { return make_error(Errc::unavailable, "not here"); }
  Status to_peer(wire::ByteView packet) override {
    GECKO_ASSERT(packet.size() >= 40);
    return {};
  }
};

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  tcp::prepare();
  const std::string why_not = tcp::test::enter_private_namespaces();
  have_kernel = why_not.empty();
  if (!have_kernel) std::fprintf(stderr, "restore_fuzz: without a kernel, only the format is tested: %s\n", why_not.c_str());
  if (have_kernel) tcp::test::ip(nullptr, "route add default dev lo\nroute add ::/0 dev lo\n");
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  wire::test::Entropy entropy(wire::ByteView(data, size));
  const wire::TcpState made = wire::test::make_state(entropy, 20'000);
  const auto state = wire::decode<wire::TcpState>(wire::encode(made));
  GECKO_ASSERT(state && wire::validate(*state));
  if (!have_kernel) return 0;

  const auto socket = tcp::restore(*state, {.freebind = true});
  if (!socket) {
    GECKO_ASSERT(socket.error().code != Errc::internal);
    return 0;
  }
  const auto again = tcp::restore(*state, {.freebind = true});
  GECKO_ASSERT(!again && again.error().code == Errc::exists);
  const auto back = tcp::capture(socket->get(), {});
  GECKO_ASSERT(back);
  GECKO_ASSERT(back->recv_queue == state->recv_queue && back->recv_seq == state->recv_seq && back->send_seq == state->send_seq - state->unsent);
  GECKO_ASSERT(std::equal(back->send_queue.begin(), back->send_queue.end(), state->send_queue.begin(), state->send_queue.end() - state->unsent));
  Nowhere nowhere;
  const auto active = tcp::activate(socket->get(), *state, nowhere);
  GECKO_ASSERT(active || state->fin_received || state->fin_acked);
  GECKO_ASSERT(tcp::retire(socket->get()));
  return 0;
}
