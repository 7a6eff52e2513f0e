// The one bounded reader and writer for everything that arrives from outside (docs/adr/0003): little-endian integers,
// length-prefixed strings and lists, every length checked against a stated maximum and against what is left.
//
// A message is a struct with one line that lists its fields; encoder, decoder, property tests and fuzzers come from it:
//     struct Ready { uint64_t xid = 0; GECKO_FIELDS(xid) };
// Field types: bool, unsigned integers, enums that have `enum_max(E)`, std::array<uint8_t, N>, Address, Endpoint, Flow,
// ConnId, StreamBase, nested messages, and with a stated maximum: wire::limited<N>(string or vector).
//
// Errors: a decoder never throws and never reads past its input; it yields an Error naming the offset. Input left over
// after a message is an error (strict), so is a bool other than 0/1 or an enum value out of range.
#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "base/address.hh"
#include "base/stream_position.hh"
#include "base/result.hh"

namespace gecko::wire {

using Bytes = std::vector<uint8_t>;
using ByteView = std::span<const uint8_t>;

class Writer {
 public:
  explicit Writer(Bytes& out) : out_(out) {}
  void integer(uint64_t value, int size_bytes);
  void raw(const void* data, size_t size);
  size_t position() const { return out_.size(); }

 private:
  Bytes& out_;
};

class Reader {
 public:
  explicit Reader(ByteView in) : in_(in) {}
  uint64_t integer(int size_bytes);           // 0 once failed
  bool raw(void* to, size_t size);
  ByteView view(size_t size);                 // borrows from the input; empty once failed
  // A list or string length: u32 on the wire, refused above `max` or (element_size x length) beyond the input.
  size_t length(size_t max, size_t element_size);
  void fail(std::string_view why);            // the first reason wins
  bool ok() const { return !failed_; }
  size_t left() const { return in_.size() - at_; }
  Status finish() const;                      // error if failed or input is left over

 private:
  ByteView in_;
  size_t at_ = 0;
  bool failed_ = false;
  size_t failed_at_ = 0;
  std::string why_;
};

template <size_t Max, class T>
struct Limited {
  T& value;
};
template <size_t Max, class T>
Limited<Max, T> limited(T& value) { return {value}; }

template <class M>
concept Message = requires(M& m) { m.gecko_fields([](auto&&...) {}); };

template <class T> inline constexpr bool kIsLimited = false;
template <size_t Max, class T> inline constexpr bool kIsLimited<Limited<Max, T>> = true;
template <class Container>
inline constexpr bool kIsByteString = sizeof(typename Container::value_type) == 1 && std::is_integral_v<typename Container::value_type>;

template <class T> void put(Writer& w, const T& value);
template <class T> void get(Reader& r, T& value);

template <size_t Max, class T>
void put_limited(Writer& w, const Limited<Max, T>& field) {
  GECKO_ASSERT(field.value.size() <= Max);  // ours to keep: callers check input before it gets here
  w.integer(field.value.size(), 4);
  if constexpr (kIsByteString<std::remove_const_t<T>>) w.raw(field.value.data(), field.value.size());
  else for (const auto& x : field.value) put(w, x);
}
template <size_t Max, class T>
void get_limited(Reader& r, const Limited<Max, T>& field) {
  const size_t n = r.length(Max, 1);
  if constexpr (kIsByteString<T>) {
    const auto bytes = r.view(n);
    field.value.assign(bytes.begin(), bytes.end());
  } else {
    field.value.clear();
    for (size_t i = 0; i < n && r.ok(); ++i) get(r, field.value.emplace_back());
  }
}

template <class T>
void put(Writer& w, const T& value) {
  if constexpr (kIsLimited<T>) put_limited(w, value);
  else if constexpr (std::is_same_v<T, bool>) w.integer(value ? 1 : 0, 1);
  else if constexpr (std::is_enum_v<T>) w.integer(static_cast<uint64_t>(value), sizeof(T));
  else if constexpr (std::unsigned_integral<T>) w.integer(value, sizeof(T));
  else if constexpr (std::is_same_v<T, Address> || std::is_same_v<T, ConnId>) w.raw(value.bytes.data(), 16);
  else if constexpr (std::is_same_v<T, Endpoint>) { put(w, value.address); w.integer(value.port, 2); }
  else if constexpr (std::is_same_v<T, Flow>) { put(w, value.local); put(w, value.peer); }
  else if constexpr (std::is_same_v<T, StreamBase>) { put(w, value.sent); put(w, value.received); put(w, value.known); }
  else if constexpr (Message<const T>) value.gecko_fields([&](const auto&... f) { (put(w, f), ...); });
  else w.raw(value.data(), value.size());  // std::array<uint8_t, N>
}

template <class T>
void get(Reader& r, T& value) {
  if constexpr (kIsLimited<std::remove_const_t<T>>) {
    get_limited(r, value);
  } else if constexpr (std::is_same_v<T, bool>) {
    const auto raw = r.integer(1);
    if (raw > 1) r.fail("a boolean is neither 0 nor 1");
    value = raw == 1;
  } else if constexpr (std::is_enum_v<T>) {
    const auto raw = r.integer(sizeof(T));
    if (raw > static_cast<uint64_t>(enum_max(T{}))) r.fail("an enumeration value is out of range");
    else value = static_cast<T>(raw);
  } else if constexpr (std::unsigned_integral<T>) value = static_cast<T>(r.integer(sizeof(T)));
  else if constexpr (std::is_same_v<T, Address> || std::is_same_v<T, ConnId>) (void)r.raw(value.bytes.data(), 16);
  else if constexpr (std::is_same_v<T, Endpoint>) { get(r, value.address); value.port = static_cast<uint16_t>(r.integer(2)); }
  else if constexpr (std::is_same_v<T, Flow>) { get(r, value.local); get(r, value.peer); }
  else if constexpr (std::is_same_v<T, StreamBase>) { get(r, value.sent); get(r, value.received); get(r, value.known); }
  else if constexpr (Message<T>) value.gecko_fields([&](auto&&... f) { (get(r, f), ...); });
  else (void)r.raw(value.data(), value.size());
}

template <Message M>
void encode(Bytes& out, const M& message) {
  Writer w(out);
  put(w, message);
}
template <Message M>
Bytes encode(const M& message) {
  Bytes out;
  encode(out, message);
  return out;
}
template <Message M>
Result<M> decode(ByteView in) {
  Reader r(in);
  M message;
  get(r, message);
  GECKO_CHECK(r.finish());
  return message;
}

}  // namespace gecko::wire

// Lists a message's fields, in wire order. Fields with a maximum are written wire::limited<N>(name).
#define GECKO_FIELDS(...)                                                              \
  template <class V> void gecko_fields(V&& visit) { std::forward<V>(visit)(__VA_ARGS__); } \
  template <class V> void gecko_fields(V&& visit) const { std::forward<V>(visit)(__VA_ARGS__); }
