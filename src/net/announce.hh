// "This address is here now": unsolicited neighbour advertisements (RFC 4861 section 7.2.6) and gratuitous ARP (RFC 5227 section 3),
// so that routers and hosts on the segment send to the new contact at once. For the privileged half: opening needs CAP_NET_RAW.
#pragma once

#include <map>
#include <vector>

#include "base/address.hh"
#include "net/interface.hh"
#include "net/loop.hh"
#include "wire/codec.hh"

namespace gecko::net {

// The Ethernet frames of one announcement: a neighbour advertisement to all nodes with the override flag, or for IPv4 an ARP
// request and an ARP reply (some stacks believe only the one, some only the other).
std::vector<wire::Bytes> announcement(const Mac& mac, const Address& address);

class Announcer {
 public:
  static Result<std::unique_ptr<Announcer>> open(Loop& loop);
  ~Announcer();
  // Sends now, and again after 100 ms and 1 s: frames get lost, and a switch may still be learning. Announcing again starts over.
  // Errors: unsupported (no MAC address), not_found (interface gone), unavailable (down).
  Status announce(const Interface& interface, const Address& address);
  // No repetition any more: this node is no longer contact. A repetition after that would take the address from its new holder.
  void withdraw(const Address& address);

 private:
  Announcer(Loop& loop, Fd socket) : loop_(loop), socket_(std::move(socket)) {}
  Status send(const Interface& interface, const Address& address);
  void repeat(const Interface& interface, const Address& address, size_t round);
  Loop& loop_;
  Fd socket_;
  std::map<Address, Loop::TimerId> repeats_;
};

}  // namespace gecko::net
