// A checkpoint of anybody's, and a new server's bytes in two pieces: what is read is written again as it was, and a head that is right in pieces is
// right whole.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "proxy/continuation.hh"

using namespace gecko::proxy;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const size_t blob = std::min<size_t>(size_t{data[0]} * 8, size - 1);
  const std::span bytes(data + 1, blob);
  const std::string_view server(reinterpret_cast<const char*>(data) + 1 + blob, size - 1 - blob);
  const auto progress = unpack_progress(bytes);
  if (!progress) return 0;
  const auto again = pack(*progress);
  if (!std::equal(again.begin(), again.end(), bytes.begin(), bytes.end())) std::abort();
  for (uint64_t more = 0; more < 600; more += 7) {
    auto plan = gecko::proxy::plan(*progress, {5, 1000, 5, 1000 + more});
    if ((plan.what == Plan::What::resume) != plan.rest.has_value()) std::abort();
    if (!plan.rest) continue;
    auto pieces = *plan.rest;
    size_t used = 0, first = 0, second = 0;
    const auto whole = plan.rest->feed(server, used);
    const size_t half = server.size() / 2;
    auto verdict = pieces.feed(server.substr(0, half), first);
    if (verdict == Rest::Verdict::more) verdict = pieces.feed(server.substr(half), second);
    if (verdict != whole || (whole == Rest::Verdict::right && first + second != used)) std::abort();
  }
  return 0;
}
