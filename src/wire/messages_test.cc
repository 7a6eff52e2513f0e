// What holds of every message of every list (all_messages.hh), with every field set and something in every list: it comes back as it went; cut short or
// with something behind it it is refused; with any bit or any length changed, or several things at once, it is refused, or is another message that is
// written in exactly that way; and a decoder takes no more memory than its input accounts for.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <new>
#include <random>
#include <regex>
#include <sstream>

#include "wire/all_messages.hh"

namespace {
thread_local size_t* counted = nullptr;   // bytes asked for since, all allocations together

void* allocate(size_t size) {
  if (counted != nullptr) *counted += size;
  if (void* const at = std::malloc(size == 0 ? 1 : size)) return at;
  throw std::bad_alloc();
}
}  // namespace

void* operator new(size_t size) { return allocate(size); }
void* operator new[](size_t size) { return allocate(size); }
void operator delete(void* at) noexcept { std::free(at); }
void operator delete[](void* at) noexcept { std::free(at); }
void operator delete(void* at, size_t) noexcept { std::free(at); }
void operator delete[](void* at, size_t) noexcept { std::free(at); }

namespace gecko::wire {
namespace {

constexpr size_t kMutants = 5'000;   // of each message, at least; docs/guarantees.md

// A list's elements are larger here than on the wire (a string of no byte: 32 against 4), and a growing vector is copied: nothing is above 16-fold.
constexpr size_t kMostPerByte = 16, kMostBesides = 1024;

// Every value is another one, so that fields that are mixed up do not come back as they went.
class Filler {
 public:
  template <class T>
  void operator()(T&& field) { fill(field); }

 private:
  template <size_t Max, class T>
  void fill(Limited<Max, T> list) {
    list.value.resize(std::min<size_t>(Max, 2));
    for (auto& element : list.value) fill(element);
  }
  template <class T, size_t N>
  void fill(std::array<T, N>& all) {
    for (auto& one : all) fill(one);
  }
  void fill(bool& value) { value = true; }
  void fill(char& value) { value = static_cast<char>('a' + next_++ % 26); }
  void fill(Address& value) { fill(value.bytes); }
  void fill(ConnId& value) { fill(value.bytes); }
  void fill(Endpoint& value) { fill(value.address), fill(value.port); }
  void fill(Flow& value) { fill(value.local), fill(value.peer); }
  void fill(StreamBase& value) { fill(value.sent), fill(value.received), fill(value.known); }
  template <class T>
  void fill(T& value) {
    if constexpr (std::is_enum_v<T>) value = enum_max(T{});
    else if constexpr (std::is_unsigned_v<T>) {
      for (size_t i = 0; i < sizeof value; ++i) value = static_cast<T>(value << 4 << 4 | static_cast<uint8_t>(++next_));
    } else value.gecko_fields([this](auto&&... fields) { (void)this, (fill(fields), ...); });
  }
  unsigned next_ = 0;
};

template <class M>
Result<M> decode_within_bounds(ByteView in) {
  size_t bytes = 0;
  counted = &bytes;
  auto message = decode<M>(in);
  counted = nullptr;
  EXPECT_LE(bytes, kMostBesides + kMostPerByte * in.size()) << "for an input of " << in.size() << " bytes";
  if (!message) {
    EXPECT_EQ(message.error().code, Errc::invalid);
    EXPECT_NE(message.error().message, "");
  }
  return message;
}

// Refused, or another message: there is one way to write each.
template <class M>
void refused_or_strict(const Bytes& bad) {
  if (const auto other = decode_within_bounds<M>(bad)) {
    EXPECT_EQ(encode(*other), bad);
  }
}

template <class M>
void attack() {
  SCOPED_TRACE(typeid(M).name());
  M message;
  message.gecko_fields([fill = Filler()](auto&&... fields) mutable { (fill(fields), ...); });
  const Bytes bytes = encode(message);
  ASSERT_FALSE(bytes.empty());
  const auto back = decode_within_bounds<M>(bytes);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(encode(*back), bytes);
  EXPECT_NE(encode(M{}), bytes) << "INVALID: nothing was filled in";

  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(decode_within_bounds<M>(ByteView(bytes).first(n))) << "cut after " << n;
  Bytes longer = bytes;
  longer.push_back(0);
  EXPECT_FALSE(decode_within_bounds<M>(longer));
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    Bytes bad = bytes;
    bad[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    refused_or_strict<M>(bad);
  }
  size_t tried = bytes.size() * 9 + 1;
  // Whatever field begins there, it may be a length.
  for (size_t at = 0; at + 4 <= bytes.size(); ++at) {
    uint32_t right = 0;
    for (size_t i = 0; i < 4; ++i) right |= static_cast<uint32_t>(bytes[at + i]) << (8 * i);
    for (const uint32_t length : {0u, 1u, 3u, right - 1, right + 1, 0xffffu, 0x7fffffffu, 0x80000000u, 0xfffffffeu, 0xffffffffu}) {
      Bytes bad = bytes;
      for (size_t i = 0; i < 4; ++i) bad[at + i] = static_cast<uint8_t>(length >> (8 * i));
      refused_or_strict<M>(bad);
      ++tried;
    }
  }
  // Several faults at once, bytes that are missing in the middle, and bytes that come twice.
  std::mt19937 random(static_cast<uint32_t>(bytes.size()));
  for (; tried < kMutants; ++tried) {
    Bytes bad = bytes;
    const auto anywhere = [&] { return static_cast<ptrdiff_t>(random() % (bad.size() + 1)); };
    for (auto faults = 1 + random() % 4; faults > 0; --faults) {
      auto from = anywhere(), to = anywhere();
      if (from > to) std::swap(from, to);
      switch (random() % 4) {
        case 0: bad.erase(bad.begin() + from, bad.begin() + std::min(to, from + 4)); break;
        case 1: {
          const Bytes part(bad.begin() + from, bad.begin() + to);
          bad.insert(bad.begin() + anywhere(), part.begin(), part.end());
          break;
        }
        default:
          if (!bad.empty()) bad[random() % bad.size()] = static_cast<uint8_t>(random());
      }
    }
    refused_or_strict<M>(bad);
  }
}

template <class... Ms>
void attack_all(MessageList<Ms...>) { (attack<Ms>(), ...); }

TEST(MessagesTest, BetweenNodes) { attack_all(LinkMessages{}); }
TEST(MessagesTest, AboutMembers) { attack_all(MembershipMessages{}); }
TEST(MessagesTest, AboutMirrors) { attack_all(MirrorMessages{}); }
TEST(MessagesTest, TcpStates) { attack_all(TcpMessages{}); }
TEST(MessagesTest, ToTheLeaseKeeper) { attack_all(KeeperMessages{}); }
TEST(MessagesTest, BetweenLeaseKeepers) { attack_all(HeartbeatMessages{}); }
TEST(MessagesTest, BetweenTheHalves) { attack_all(IpcMessages{}); }
TEST(MessagesTest, OfPrograms) { attack_all(ApiMessages{}); }

std::string text_of(const std::string& file) {
  std::ifstream in(std::string(GECKO_WIRE) + "/" + file);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

TEST(MessagesTest, TheListsAreComplete) {
  const std::string lists = text_of("all_messages.hh");
  size_t found = 0;
  for (const char* header : {"link.hh", "membership.hh", "mirror.hh", "tcp_mirror.hh", "keeper.hh", "heartbeat.hh", "ipc.hh", "api.hh"}) {
    const std::string text = text_of(header);
    const std::regex structure("(?:^|\n)struct ([A-Za-z0-9]+)");
    for (std::sregex_iterator it(text.begin(), text.end(), structure); it != std::sregex_iterator(); ++it, ++found)
      EXPECT_TRUE(std::regex_search(lists, std::regex("[<, \n]" + (*it)[1].str() + "[,>]"))) << (*it)[1] << " of " << header << " is not in all_messages.hh";
  }
  EXPECT_GT(found, 140u);
}

}  // namespace
}  // namespace gecko::wire
