// For the fuzzers of this folder: the first byte chooses the message type, the rest is its body.
#pragma once

#include <algorithm>

#include "wire/all_messages.hh"

namespace gecko::wire {

// There is one way to write each message: what decodes encodes to the same bytes, and what does not says why.
template <Message M>
void decode_and_back(ByteView in) {
  const auto message = decode<M>(in);
  if (!message) {
    GECKO_ASSERT(!message.error().message.empty());
    return;
  }
  const Bytes again = encode(*message);
  GECKO_ASSERT(std::equal(again.begin(), again.end(), in.begin(), in.end()));
}

template <Message... Ms>
int fuzz_one_of(MessageList<Ms...>, const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  size_t chosen = data[0] % sizeof...(Ms);
  const ByteView body(data + 1, size - 1);
  (void)((chosen-- == 0 ? (decode_and_back<Ms>(body), true) : false) || ...);
  return 0;
}

}  // namespace gecko::wire
