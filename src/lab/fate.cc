#include "lab/fate.hh"

namespace gecko::lab {

// Constants and shifts are SplitMix64's (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
uint64_t splitmix64(uint64_t seed, uint64_t n) {
  uint64_t z = seed + (n + 1) * 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

uint64_t stream_of(uint64_t seed, std::string_view from, std::string_view to) {
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  const auto add = [&](char c) { hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3; };
  for (const char c : from) add(c);
  add('>');
  for (const char c : to) add(c);
  return splitmix64(seed ^ hash, 0);
}

Fate fate_of(const LinkFaults& faults, uint64_t stream, uint64_t number) {
  enum Draw : uint64_t { lost, duplicated, overtaken, corrupted, jitter, lateness, bit, kDraws };  // the order is part of what a seed means
  const auto draw = [&](Draw which) { return splitmix64(stream, number * kDraws + which); };
  const auto hits = [&](Draw which, uint32_t ppm) { return below(draw(which), kMillion) < ppm; };
  Fate fate;
  fate.lost = hits(lost, faults.loss_ppm);
  fate.duplicated = hits(duplicated, faults.duplicate_ppm);
  fate.overtaken = hits(overtaken, faults.reorder_ppm);
  fate.corrupted = hits(corrupted, faults.corrupt_ppm);
  fate.corrupt_draw = draw(bit);
  fate.delay = std::chrono::microseconds(faults.delay_us + below(draw(jitter), uint64_t{faults.jitter_us} + 1));
  if (fate.overtaken) fate.delay += kLateAtLeast + Duration(below(draw(lateness), static_cast<uint64_t>((kLateAtMost - kLateAtLeast).count())));
  return fate;
}

}  // namespace gecko::lab
