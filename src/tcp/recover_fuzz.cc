// A packet from anybody meets a mirror: what is read lies within the packet, and what comes of both is a state that restore would take.
#include "tcp/recover.hh"

using namespace gecko;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const wire::ByteView input(data, size);
  const auto segment = tcp::read_packet(input);
  if (!segment) return 0;
  GECKO_ASSERT(segment->payload.empty() || (segment->payload.data() >= data && segment->payload.data() + segment->payload.size() <= data + size));
  wire::TcpMirror mirror;
  mirror.flow = {segment->to, segment->from};
  mirror.mss = 1000;
  mirror.snd_una = segment->ack - segment->window;
  mirror.rcv_nxt = segment->seq - segment->hop_limit;
  mirror.snd_edge = mirror.snd_una + 65'535;
  mirror.rcv_edge = mirror.rcv_nxt + 65'535;
  mirror.timestamps = segment->timestamps;
  mirror.echoed_clock = mirror.clock = segment->ts_echo;
  const auto recovered = tcp::recover(mirror, *segment);
  GECKO_ASSERT(!recovered || wire::validate(recovered->state));
  return 0;
}
