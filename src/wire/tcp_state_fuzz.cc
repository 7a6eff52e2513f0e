// A TCP state as another node might send it: accepted means written back identically, and validate never fails hard. The
// same bytes also drive the generator of valid states, which must survive the trip.
#include "wire/test_state.hh"

using namespace gecko;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const wire::ByteView input(data, size);
  if (const auto state = wire::decode<wire::TcpState>(input)) {
    const wire::Bytes again = wire::encode(*state);
    GECKO_ASSERT(std::equal(again.begin(), again.end(), input.begin(), input.end()));
    (void)bool(wire::validate(*state));
  }
  wire::test::Entropy entropy(input);
  const wire::TcpState made = wire::test::make_state(entropy, 200);
  GECKO_ASSERT(wire::validate(made));
  const wire::Bytes bytes = wire::encode(made);
  const auto back = wire::decode<wire::TcpState>(bytes);
  GECKO_ASSERT(back && wire::encode(*back) == bytes && wire::validate(*back));
  return 0;
}
