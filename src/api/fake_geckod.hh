// A stand-in for geckod in tests: speaks the real protocol (wire/api.hh) on a real UNIX socket, from its own thread. Connections "move"
// by passing the very descriptor to another node's fake, so clients on loopback see what they would see with a real move.
//
// Greets, joins, listens (on ::1) and answers requests by itself; everything received is recorded for expect(). `set_script` may take a
// message first (true: handled). Handoffs are answered as `handoffs` says.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "base/clock.hh"
#include "base/fd.hh"
#include "wire/api.hh"
#include "wire/frame.hh"

namespace gecko::test {

using wire::ApiType;

class FakeGeckod;

// The nodes that can hand connections to each other.
struct FakeCluster {
  std::mutex lock;
  std::map<std::string, FakeGeckod*> nodes;
};

class FakeGeckod {
 public:
  struct Record {
    ApiType type;
    wire::Bytes body;
    Fd fd;
    int client = 0;              // which connection of which incarnation
  };
  enum class Handoffs { move, refuse, hold };

  FakeGeckod(std::string path, std::string node, FakeCluster& cluster) : path_(std::move(path)), node_(std::move(node)), cluster_(cluster) {
    const std::lock_guard guard(cluster_.lock);
    cluster_.nodes[node_] = this;
    start();
  }
  ~FakeGeckod() {
    {
      const std::lock_guard guard(cluster_.lock);
      cluster_.nodes.erase(node_);
    }
    stop();
  }

  void start() {
    stopping_ = false;
    listener_ = Fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    unlink(path_.c_str());
    GECKO_ASSERT(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    GECKO_ASSERT(listen(listener_.get(), 64) == 0);
    wake_ = Fd(eventfd(0, EFD_CLOEXEC));
    thread_ = std::thread([this] { run(); });
  }
  using Script = std::function<bool(FakeGeckod&, Record&)>;
  void set_script(Script script) {
    const std::lock_guard guard(lock_);
    script_ = std::move(script);
  }
  // Dies: every connection ends, the name is gone, held descriptors are closed.
  void stop() {
    if (!thread_.joinable()) return;
    stopping_ = true;
    const uint64_t one = 1;
    (void)!write(wake_.get(), &one, sizeof one);
    thread_.join();
    unlink(path_.c_str());
    listener_.reset();
    const std::lock_guard guard(lock_);
    clients_.clear();
    records_.clear();
    joined_client_ = 0;
    changed();
  }

  const std::string& path() const { return path_; }
  const std::string& node() const { return node_; }

  // The oldest recorded message of a type that `want` accepts, waiting for it. Fails (type 0) after 5 s.
  Record expect(ApiType type, const std::function<bool(const Record&)>& want = nullptr) {
    std::unique_lock guard(lock_);
    for (const Time end = monotonic_now() + std::chrono::seconds(10);;) {
      for (auto at = records_.begin(); at != records_.end(); ++at) {
        if (at->type != type || (want && !want(*at))) continue;
        Record found = std::move(*at);
        records_.erase(at);
        return found;
      }
      if (changed_.wait_until(guard, end) == std::cv_status::timeout) return Record{ApiType{}, {}, {}, 0};
    }
  }
  template <class M>
  M expect_message(ApiType type, Fd* fd = nullptr) {
    Record r = expect(type);
    auto m = wire::decode<M>(r.body);
    if (fd != nullptr) *fd = std::move(r.fd);
    return m ? *m : M{};
  }
  size_t recorded(ApiType type) {
    const std::lock_guard guard(lock_);
    size_t n = 0;
    for (const auto& r : records_) n += r.type == type;
    return n;
  }

  // Waits until `holds`, a question to this fake; asked again whenever it has taken a message or lost a connection. At most 10 s.
  template <class Pred>
  bool await(Pred holds) {
    std::unique_lock guard(lock_);
    for (const Time end = monotonic_now() + std::chrono::seconds(10);;) {
      const uint64_t seen = changes_;
      guard.unlock();
      if (holds()) return true;
      guard.lock();
      if (!changed_.wait_until(guard, end, [&] { return changes_ != seen; })) return false;
    }
  }

  // To the application that joined last.
  template <wire::Message M>
  void tell(ApiType type, const M& message, int fd = -1) {
    wire::Bytes out;
    wire::put_frame(out, static_cast<uint16_t>(type), message, fd >= 0 ? 1 : 0);
    tell_raw(out, fd);
  }
  void tell_raw(const wire::Bytes& bytes, int fd = -1) {
    const std::lock_guard guard(lock_);
    if (Client* client = find(joined_client_)) transmit(*client, bytes, fd);
  }
  void arrive(const ConnId& id, uint64_t epoch, const Flow& flow, const std::string& from, const wire::Bytes& blob, int fd) {
    wire::Bytes out;
    const auto type = static_cast<uint16_t>(ApiType::arrive);
    if (version < 3) wire::put_frame(out, type, wire::ArriveBefore3{id, epoch, flow, from, blob}, fd >= 0 ? 1 : 0);
    else if (version < 4) wire::put_frame(out, type, wire::ArriveBefore4{id, epoch, flow, from, blob}, fd >= 0 ? 1 : 0);
    else if (version < 6) wire::put_frame(out, type, wire::ArriveBefore6{id, epoch, flow, from, blob}, fd >= 0 ? 1 : 0);
    else wire::put_frame(out, type, wire::Arrive{id, epoch, flow, from, blob}, fd >= 0 ? 1 : 0);
    const std::lock_guard guard(lock_);
    open_[id] = {flow, epoch};   // known and told in one: nobody sees it open whose application has not been told
    changed();
    if (Client* client = find(joined_client_)) transmit(*client, out, fd);
  }
  template <wire::Message M>
  void answer(const Record& to, ApiType type, const M& message) { reply(to.client, type, message); }
  void hang_up() {                // this incarnation ends its connections, the name stays
    const std::lock_guard guard(lock_);
    for (auto& client : clients_) shutdown(client.fd.get(), SHUT_RDWR);
  }
  bool has_application() {
    const std::lock_guard guard(lock_);
    return joined_client_ != 0;
  }
  void tell_members() {
    const auto message = members();
    if (placement) tell(ApiType::placement, *placement);
    tell(ApiType::members, message);
  }

  std::atomic<Handoffs> handoffs{Handoffs::move};
  std::atomic<bool> contact{true};
  std::atomic<uint16_t> version{wire::kApiVersion};     // of the protocol; set before the application comes
  std::atomic<bool> recovers{false};                    // the group does; the same
  std::atomic<bool> replicates{false};                  // it does that, too; the same. Then the group's port is the one that is listened on
  std::atomic<bool> keeps{true};                        // the backups have everything at once; else tests say `stable`
  std::atomic<bool> greet{true};
  std::optional<wire::Placement> placement;             // sent before members; set before the application comes

 private:
  struct Client {
    int number = 0;
    Fd fd;
    wire::FrameParser parser;
    std::deque<Fd> fds;
  };

  void changed() {   // with the lock
    ++changes_;
    changed_.notify_all();
  }

  Client* find(int number) {
    for (auto& c : clients_)
      if (c.number == number) return &c;
    return nullptr;
  }

  void transmit(Client& client, const wire::Bytes& bytes, int fd) {
    for (size_t at = 0; at < bytes.size();) {
      iovec iov{const_cast<uint8_t*>(bytes.data()) + at, bytes.size() - at};
      msghdr message{};
      message.msg_iov = &iov;
      message.msg_iovlen = 1;
      alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
      if (fd >= 0 && at == 0) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &fd, sizeof fd);
      }
      const ssize_t n = sendmsg(client.fd.get(), &message, MSG_NOSIGNAL);
      if (n < 0) return;
      at += static_cast<size_t>(n);
    }
  }
  template <wire::Message M>
  void reply(int number, ApiType type, const M& message, int fd = -1) {
    wire::Bytes out;
    wire::put_frame(out, static_cast<uint16_t>(type), message, fd >= 0 ? 1 : 0);
    const std::lock_guard guard(lock_);
    if (Client* client = find(number)) transmit(*client, out, fd);
  }

  void run() {
    while (!stopping_) {
      std::vector<pollfd> fds{{wake_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
      std::vector<int> numbers;
      {
        const std::lock_guard guard(lock_);
        for (auto& c : clients_) {
          fds.push_back({c.fd.get(), POLLIN, 0});
          numbers.push_back(c.number);
        }
      }
      poll(fds.data(), fds.size(), -1);
      if (fds[1].revents != 0) {
        Fd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        const std::lock_guard guard(lock_);
        auto& client = clients_.emplace_back();
        client.number = ++last_number_;
        client.fd = std::move(fd);
      }
      for (size_t i = 0; i < numbers.size(); ++i)
        if (fds[i + 2].revents != 0) receive(numbers[i]);
    }
  }

  void receive(int number) {
    Client* client = nullptr;
    {
      const std::lock_guard guard(lock_);
      client = find(number);
    }
    const auto room = client->parser.room(65536);
    iovec iov{room.data(), room.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(253 * sizeof(int))];
    msghdr message{};
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t n = recvmsg(client->fd.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && errno == EAGAIN) return;
    if (n > 0) {
      for (cmsghdr* h = CMSG_FIRSTHDR(&message); h != nullptr; h = CMSG_NXTHDR(&message, h)) {
        for (size_t i = 0; i < (h->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
          int fd = -1;
          memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
          client->fds.emplace_back(fd);
        }
      }
      client->parser.filled(static_cast<size_t>(n));
      for (;;) {
        wire::FrameView frame;
        const auto more = client->parser.next(frame);
        GECKO_ASSERT(more.has_value());
        if (!*more) return;
        Record record{static_cast<ApiType>(frame.type), {frame.body.begin(), frame.body.end()}, {}, number};
        if (frame.descriptors != 0) {
          GECKO_ASSERT(frame.descriptors == 1 && !client->fds.empty());
          record.fd = std::move(client->fds.front());
          client->fds.pop_front();
        }
        Script script;
        {
          const std::lock_guard guard(lock_);
          script = script_;
        }
        if (!(script && script(*this, record))) handle(record);
        const std::lock_guard guard(lock_);
        records_.push_back(std::move(record));
        changed();
      }
    }
    const std::lock_guard guard(lock_);
    if (joined_client_ == number) joined_client_ = 0;
    clients_.remove_if([&](const Client& c) { return c.number == number; });
    changed();
  }

  Fd make_service() {
    Fd fd(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_storage to{};
    const socklen_t size = Endpoint{*Address::parse("::1"), 0}.to_sockaddr(to);
    GECKO_ASSERT(bind(fd.get(), reinterpret_cast<sockaddr*>(&to), size) == 0 && ::listen(fd.get(), 4096) == 0);
    socklen_t bound = sizeof to;
    getsockname(fd.get(), reinterpret_cast<sockaddr*>(&to), &bound);
    listening_port_ = Endpoint::from_sockaddr(to)->port;
    return fd;
  }
  std::vector<uint16_t> ports() {
    if (!replicates) return {80};
    if (listening_port_ == 0) service_ = make_service();
    return {listening_port_};
  }

  wire::Members members() {
    wire::Members all;
    const std::lock_guard guard(cluster_.lock);
    for (const auto& [name, daemon] : cluster_.nodes)
      all.members.push_back({name, *Address::parse("::1"), true, name == node_, name == node_ && contact, 0,
                             static_cast<uint16_t>(name == node_ || daemon->has_application() ? 1 : 0)});
    return all;
  }

  void handle(Record& r) {
    switch (r.type) {
      case ApiType::hello:
        if (greet) reply(r.client, ApiType::welcome, wire::Welcome{version, "fake", node_});
        break;
      case ApiType::join: {
        const auto m = *wire::decode<wire::Join>(r.body);
        {
          const std::lock_guard guard(lock_);
          joined_client_ = r.client;
        }
        if (m.group != "web") reply(r.client, ApiType::error, wire::ApiError{m.request, static_cast<uint16_t>(Errc::not_found), "no group " + m.group});
        else if (version < 3) reply(r.client, ApiType::joined, wire::JoinedBefore3{m.request, m.group, node_, *Address::parse("::1"), {80}, contact});
        else if (version < 4)
          reply(r.client, ApiType::joined, wire::JoinedBefore4{m.request, m.group, node_, *Address::parse("::1"), ports(), contact, recovers});
        else reply(r.client, ApiType::joined, wire::Joined{m.request, m.group, node_, *Address::parse("::1"), ports(), contact, recovers, replicates});
        break;
      }
      case ApiType::subscribe:
        if (placement) reply(r.client, ApiType::placement, *placement);
        reply(r.client, ApiType::members, members()); break;
      case ApiType::leave: reply(r.client, ApiType::done, wire::Done{wire::decode<wire::Leave>(r.body)->request}); break;
      case ApiType::set_contact: reply(r.client, ApiType::done, wire::Done{wire::decode<wire::SetContact>(r.body)->request}); break;
      case ApiType::listen: {
        const auto m = *wire::decode<wire::Listen>(r.body);
        const Fd fd = service_ ? std::move(service_) : make_service();
        reply(r.client, ApiType::listening, wire::Listening{m.request}, fd.get());
        break;
      }
      case ApiType::socket: {
        const auto m = *wire::decode<wire::Socket>(r.body);
        Fd fd(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_storage to{};
        socklen_t size = Endpoint{*Address::parse("::1"), 0}.to_sockaddr(to);
        GECKO_ASSERT(bind(fd.get(), reinterpret_cast<sockaddr*>(&to), size) == 0);
        getsockname(fd.get(), reinterpret_cast<sockaddr*>(&to), &size);
        reply(r.client, ApiType::socket_is, wire::SocketIs{m.request, *Endpoint::from_sockaddr(to)}, fd.get());
        break;
      }
      case ApiType::handoff_client: {
        const auto m = *wire::decode<wire::HandoffClient>(r.body);
        reply(r.client, ApiType::client_result, wire::ClientResult{m.request, {{ConnId{}, m.client, node_, 0, ""}}});
        break;
      }
      case ApiType::opened: {
        const std::lock_guard guard(lock_);
        if (version < 3) {
          const auto m = *wire::decode<wire::OpenedBefore3>(r.body);
          open_[m.id] = {m.flow, m.epoch};
        } else {
          const auto m = *wire::decode<wire::Opened>(r.body);
          open_[m.id] = {m.flow, m.epoch};
        }
        break;
      }
      case ApiType::closed: {
        const std::lock_guard guard(lock_);
        open_.erase(wire::decode<wire::AppClosed>(r.body)->id);
        break;
      }
      case ApiType::handoff: {
        const auto m = *wire::decode<wire::AppHandoff>(r.body);
        move(r, m.request, m.id, m.target, m.blob);
        break;
      }
      case ApiType::await_stable: {
        if (!keeps) break;
        if (version < 5) {
          const auto m = *wire::decode<wire::AppAwaitBefore5>(r.body);
          reply(r.client, ApiType::stable, wire::AppStableBefore5{m.id, m.offset});
        } else {
          const auto m = *wire::decode<wire::AppAwait>(r.body);
          reply(r.client, ApiType::stable, wire::AppStable{m.id, m.offset, m.checkpoints});
        }
        break;
      }
      case ApiType::yielded: {
        const auto m = *wire::decode<wire::Yielded>(r.body);
        std::string target;
        {
          const std::lock_guard guard(lock_);
          target = yield_target_;
        }
        if (!target.empty()) move(r, 0, m.id, target, m.blob);
        break;
      }
      default: break;
    }
  }

  void move(Record& r, uint64_t request, const ConnId& id, const std::string& wanted, const wire::Bytes& blob) {
    bool known = false;
    {
      const std::lock_guard guard(lock_);
      known = open_.contains(id);
    }
    if (!known) {
      reply(r.client, ApiType::outcome,
            wire::AppOutcome{request, id, static_cast<uint16_t>(Errc::not_found), "this application has no connection " + id.str(), wanted, true});
      return;
    }
    if (handoffs == Handoffs::hold) return;
    if (handoffs == Handoffs::refuse) {
      r.fd.reset();
      reply(r.client, ApiType::outcome, wire::AppOutcome{request, id, static_cast<uint16_t>(Errc::refused), "it does not want it", wanted, true});
      return;
    }
    FakeGeckod* to = nullptr;
    std::string target = wanted;
    {
      const std::lock_guard guard(cluster_.lock);
      if (target.empty())
        for (const auto& [name, daemon] : cluster_.nodes)
          if (name != node_) target = name;
      if (const auto at = cluster_.nodes.find(target); at != cluster_.nodes.end()) to = at->second;
    }
    if (to == nullptr || !to->has_application()) {
      reply(r.client, ApiType::outcome, wire::AppOutcome{request, id, static_cast<uint16_t>(Errc::unavailable), "no such node", wanted, true});
      return;
    }
    Flow flow;
    uint64_t epoch = 1;
    {
      const std::lock_guard guard(lock_);
      flow = open_[id].flow;
      epoch = ++open_[id].epoch;
      if (to != this) open_.erase(id);
    }
    const auto tell_outcome = [&] { reply(r.client, ApiType::outcome, wire::AppOutcome{request, id, 0, "", target, true}); };
    if (to != this) tell_outcome();   // before it can come back
    to->arrive(id, epoch, flow, node_, blob, r.fd.get());
    r.fd.reset();
    if (to == this) tell_outcome();
  }

 public:
  // Asks the application for a connection and moves it. One that is on its way here is waited for: its donor hears of the end first.
  void move_away(const ConnId& id, const std::string& target) {
    {
      std::unique_lock guard(lock_);
      changed_.wait_for(guard, std::chrono::seconds(5), [&] { return open_.contains(id); });
      yield_target_ = target;
    }
    tell(ApiType::yield, wire::Yield{id});
  }
  uint16_t listening_port() const { return listening_port_; }
  std::vector<ConnId> open_connections() {
    const std::lock_guard guard(lock_);
    std::vector<ConnId> all;
    for (const auto& [id, known] : open_) all.push_back(id);
    return all;
  }

 private:
  struct Open { Flow flow; uint64_t epoch = 1; };
  const std::string path_, node_;
  FakeCluster& cluster_;
  Fd listener_, wake_;
  Fd service_;                 // listened on before anybody has asked for it
  std::thread thread_;
  std::atomic<bool> stopping_{false};
  std::mutex lock_;
  std::condition_variable changed_;
  uint64_t changes_ = 0;
  std::list<Client> clients_;
  std::deque<Record> records_;
  int last_number_ = 0, joined_client_ = 0;
  std::map<ConnId, Open> open_;
  std::string yield_target_;
  Script script_;
  std::atomic<uint16_t> listening_port_{0};
};

}  // namespace gecko::test
