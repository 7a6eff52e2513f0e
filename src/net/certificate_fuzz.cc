// Any text as revoked.txt, as an identity and as a PEM certificate: understood or an error, and what is understood is canonical.
#include <algorithm>

#include "net/certificate.hh"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gecko;
  using namespace gecko::net;
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (const auto serials = parse_serials(text, "f")) {
    for (const auto& serial : *serials)
      GECKO_ASSERT(!serial.empty() && serial.size() <= 40 && serial.size() % 2 == 0 && serial.find_first_not_of("0123456789abcdef") == std::string::npos);
  }
  if (const auto identity = Identity::parse(text)) GECKO_ASSERT(identity->uri() == text);
  if (const auto certificate = parse_certificate(text, "f")) {
    (void)identity_of(certificate->get());
    (void)serial_of(certificate->get());
    (void)fingerprint_of(certificate->get());
  }
  return 0;
}
