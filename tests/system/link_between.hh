// A man in the middle of the link between two nodes of a lab, with both nodes' keys: it sees every message, makes each node believe that the
// other speaks other versions than it does, and can say things of its own. For tests of what nodes of different versions say to each other.
//
// The first node's geckod must dial the port that is given here instead of the other's (its own group file). Own thread, in the second node's namespace.
#pragma once

#include <atomic>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "lab/lab.hh"
#include "net/tls_link.hh"
#include "wire/link.hh"

namespace gecko::system_test {

class LinkBetween {
 public:
  // `from` comes first in the group file: it dials. The lab must outlive this.
  static Result<std::unique_ptr<LinkBetween>> start(const lab::Lab& lab, const std::string& from, const std::string& to, uint16_t port);
  ~LinkBetween();

  // What both hellos say from now on. The link that stands is ended, and made again by the nodes.
  void speak(uint16_t version, uint16_t version_min);
  // Messages of this type since the last speak().
  size_t seen(wire::LinkType type, bool from_first);
  // As if the second node had sent it to the first.
  template <wire::Message M>
  void say_to_first(wire::LinkType type, const M& message) {
    call([&] {
      if (first_) first_->send(static_cast<uint16_t>(type), message);
    });
  }

 private:
  LinkBetween(const lab::Lab& lab, std::string from, std::string to, uint16_t port);
  Status open();
  void run(std::promise<Status> opened);
  void call(const std::function<void()>& work);
  void accepted(std::unique_ptr<net::TlsLink> link);
  void pass(const wire::FrameView& frame, bool from_first);
  void drop();

  const lab::Lab& lab_;
  const std::string from_, to_;
  const uint16_t port_;
  std::mutex mutex_;
  std::vector<std::packaged_task<void()>> tasks_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
  // The thread's own.
  net::Loop loop_;
  std::shared_ptr<net::TlsContext> as_first_, as_second_;
  std::unique_ptr<net::TlsListener> listener_;
  std::unique_ptr<net::TlsLink> first_, second_;   // to the first node, to the second
  uint16_t version_ = wire::kLinkVersion, version_min_ = wire::kLinkVersionMin;
  std::map<std::pair<uint16_t, bool>, size_t> seen_;
};

}  // namespace gecko::system_test
