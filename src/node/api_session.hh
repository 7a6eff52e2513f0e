// One program connected to geckod's UNIX socket: an application (it joined a group and owns connections) or an operator (admin commands).
// Who it is comes from the kernel (SO_PEERCRED); what it may do from [rights] in the group file.
#pragma once

#include <set>
#include <unordered_set>

#include "net/channel.hh"
#include "wire/api.hh"

namespace gecko::node {

class Daemon;
class Group;

class ApiSession {
 public:
  // `listed`: a user of some group's [rights]; others get less room.
  ApiSession(Daemon& daemon, net::Loop& loop, Fd socket, net::PeerCred who, bool listed);
  ~ApiSession();

  template <wire::Message M>
  void send(wire::ApiType type, const M& message, std::vector<Fd> fds = {}) {
    channel_.send(static_cast<uint16_t>(type), message, std::move(fds));
  }
  void fail(uint64_t request, const Error& error);

  Group* group() const { return group_; }
  const std::set<uint16_t>& ports() const { return ports_; }
  uint16_t version() const { return version_; }
  bool listens_on(uint16_t port) const { return ports_.contains(port); }
  // Older libraries cannot say so: their programs know nothing of connections that go on.
  bool continues(uint16_t port) const { return continues_.contains(port); }   // has said that it goes on with others' connections, checkpoint or not
  bool wants_recovery(uint16_t port) const;
  bool asks_replication(uint16_t port) const;   // it says what it reads of this port's connections
  bool serving() const { return group_ != nullptr && !leaving_; }
  bool subscribed() const { return subscribed_; }
  // `more` connections may still arrive: its program has descriptors for them, as far as it says.
  bool has_room(size_t more) const { return more == 0 || arrived + more <= room_; }
  uint64_t arrived = 0;                   // so many have been delivered to it; kept by its Group
  size_t connections = 0;                 // owned by this application; kept by its Group
  // Connections that ended here with a life of this node: what it still says of them, it says of those. Until it has said that they are closed, or has
  // heard that they are here again; kept by its Group.
  std::unordered_set<ConnId> former;
  const net::PeerCred& who() const { return who_; }
  const std::string& program() const { return program_; }   // as it calls itself

 private:
  void frame(const wire::FrameView& frame, std::vector<Fd>& fds);
  Status handle(const wire::FrameView& frame, std::vector<Fd>& fds, uint64_t& request);
  Status joined_group() const;
  Result<wire::Opened> decode_opened(wire::ByteView body) const;
  Result<wire::AppAwait> decode_await(wire::ByteView body) const;
  bool asks_recovery(uint16_t port) const;
  Daemon& daemon_;
  net::PeerCred who_;
  std::string program_;
  Group* group_ = nullptr;
  std::set<uint16_t> ports_, unrecovered_, unreplicated_, continues_;
  uint16_t version_ = wire::kApiVersionMin;
  uint64_t room_ = UINT64_MAX;        // older libraries do not say
  bool greeted_ = false, leaving_ = false, subscribed_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  net::Loop::TimerId hello_due_ = 0;
  net::Channel channel_;
};

}  // namespace gecko::node
