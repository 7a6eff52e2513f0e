// What a client says after the death of its node, packet by packet, until it is enough to go on from (docs/adr/0019): which of its segments is the
// answer to the probe, and with which byte it goes on. Bytes that the dead node had acknowledged after the mirror was written do not come again, even
// beyond the window of the mirror: then `received` is where the client goes on, and the application, which knows how far its checkpoint was, decides.
//
//   each segment that comes after the first probe -> heard(); now and then -> judge()
// Pure; no clock of its own.
#pragma once

#include <optional>
#include <string>

#include "base/clock.hh"
#include "tcp/recover.hh"

namespace gecko::tcp {

class ClientWord {
 public:
  enum class Verdict {
    silent,     // nothing that one can go on from, yet
    enough,     // recovered() is where it stands
    reset,      // it has ended the connection
    beyond,     // it has got further with the dead node than the mirror can tell: nobody can go on
  };
  // knows_input: the mirror has all that the dead node had acknowledged (docs/adr/0026), so that nothing of that is to be learned.
  explicit ClientWord(const wire::TcpMirror& mirror, bool knows_input = false) : mirror_(mirror), knows_input_(knows_input) {}

  void heard(const Segment& segment);
  // `asked`: since the first probe.
  Verdict judge(Duration asked);
  const Recovered& recovered() const { return *best_; }
  const Error& why_beyond() const { return *why_beyond_; }
  // For people, while judge() says silent: what is missing.
  std::string what_is_missing() const;

 private:
  void widen(uint32_t end);

  wire::TcpMirror mirror_;
  bool knows_input_;
  std::optional<Recovered> best_;
  uint32_t best_ack_ = 0;
  bool exact_ = false;         // that one answers the probe for certain
  bool reset_ = false;
  std::string unfit_;          // why the last segment that did not fit did not; empty: none came
  std::optional<Error> why_beyond_;
  bool continues_ = false;     // it has sent the first byte that is missing
  std::optional<uint32_t> lowest_;   // position of the lowest segment that begins beyond it,
  unsigned times_ = 0;               // ... and how often it has been sent again
  std::optional<uint32_t> highest_;  // end of all that it has sent
};

}  // namespace gecko::tcp
