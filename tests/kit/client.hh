// One verified TCP connection of a swarm (swarm.hh): the base of the ping, echo, download and upload clients. Everything here runs on
// the swarm's thread. A client that sees a reset, an early end, a wrong byte or a refusal stops and says so in its totals; it never
// repairs or retries, because that is what it is there to notice.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/address.hh"
#include "base/fd.hh"
#include "kit/pattern.hh"
#include "kit/timeline.hh"
#include "net/loop.hh"

namespace gecko::kit {

struct Totals {
  uint64_t connections = 0;   // opened
  uint64_t finished = 0;      // ended as they should
  uint64_t resets = 0;        // RST while it was alive
  uint64_t closed_early = 0;  // the server's end of stream where more was due
  uint64_t wrong = 0;         // connections that carried a byte that is not the right one (or a wrong answer)
  uint64_t lost_bytes = 0;    // of the wrong ones: bytes left out, and bytes that came again, where the first wrong byte was (slip.hh)
  uint64_t duplicate_bytes = 0;
  uint64_t failed = 0;        // could not be opened, timed out, other errors
  uint64_t stuck = 0;         // still not done when the swarm's patience ended
  uint64_t bytes_sent = 0, bytes_received = 0, exchanges = 0;
  uint64_t retransmits = 0;  // segments this side sent again (tcpi_total_retrans)
  Duration longest_stall{};
  std::string first_failure;  // with the connection's addresses

  uint64_t lost() const { return resets + closed_early + wrong + failed + stuck; }
  Totals& operator+=(const Totals& other);
};

class Client {
 public:
  Client(net::Loop& loop, const Endpoint& server, const Address& from) : loop_(loop), server_(server), from_(from) {}
  virtual ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void open();
  // No new work; what is under way is completed and verified, then it is done().
  virtual void wind_down() = 0;
  bool done() const { return state_ == State::done; }
  bool connected() const { return state_ == State::connected; }
  bool has_been_connected() const { return has_been_connected_; }   // those that open a new connection for each request are between two at any moment
  void give_up();         // counts as stuck
  Totals totals() const;  // with the open connection's
  uint64_t retransmits() const { return totals_.retransmits + open_retransmits(); }
  uint64_t unacknowledged() const;   // bytes of the open connection that our kernel still has, because the server's has not said that it has them
  Endpoint local() const { return local_; }  // our side, once connected
  Endpoint server() const { return server_; }
  void keep_alive();  // from now on its kernel asks every second whether the connection is still there: it speaks although it only waits
  Timeline& timeline() { return timeline_; }

 protected:
  enum class Failure { reset, closed_early, wrong, failed };
  virtual void opened() = 0;  // connected
  virtual void readable() = 0;
  virtual void writable() {}
  virtual void ended() { fail(Failure::closed_early, "the server closed the connection"); }
  virtual void closing() {}  // timers and what else belongs to one connection

  // Bytes moved, 0 when nothing can be moved now or the connection just ended (then done()).
  size_t read_some(std::span<uint8_t> into);
  size_t write_some(std::span<const uint8_t> from);
  void receive_buffer(size_t bytes) { receive_buffer_ = bytes; }   // SO_RCVBUF of sockets to be opened; 0: the kernel's choice
  void want(bool read, bool write);
  void shut_output();
  void finish();  // as it should be: closes
  void fail(Failure kind, const std::string& why);
  // `bytes` came at `offset` of the stream, and the first of them is not the right one: also counts what was left out or came again.
  void fail_wrong(Pattern kind, uint64_t seed, uint64_t offset, std::span<const uint8_t> bytes, const std::string& why);
  int fd() const { return socket_.get(); }

  net::Loop& loop_;
  Totals totals_;
  Timeline timeline_;

 private:
  enum class State { idle, connecting, connected, done };
  void ready(uint32_t events);
  void close();
  uint64_t open_retransmits() const;

  Endpoint server_, local_;
  Address from_;  // unspecified: the kernel's choice
  Fd socket_;
  State state_ = State::idle;
  bool has_been_connected_ = false;
  size_t receive_buffer_ = 0;
  uint32_t events_ = 0;
};

}  // namespace gecko::kit
