// Many verified connections on one thread with one loop, inside a network namespace.
//
//   auto swarm = Swarm::start([&] { return lab->enter("client"); });
//   auto& ping = (*swarm)->add<PingClient>(PingOptions{.server = ...});
//   ... (*swarm)->call([&] { gap = ping.timeline().longest(from, to); }); ...
//   (*swarm)->wind_down(10s); totals = (*swarm)->totals();
//
// Clients belong to the swarm and live as long as it does; outside of call() only their address may be used.
#pragma once

#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "kit/client.hh"

namespace gecko::kit {

class Swarm {
 public:
  // `enter` runs first on the new thread (it may enter a namespace for good).
  static Result<std::unique_ptr<Swarm>> start(std::function<Status()> enter = {});
  ~Swarm();  // connections that are still open are closed
  Swarm(const Swarm&) = delete;
  Swarm& operator=(const Swarm&) = delete;

  // Opens the connection at once. Client constructors take (Loop&, Options).
  template <class C, class Options>
  C& add(Options options) {
    C* made = nullptr;
    call([&] {
      auto client = std::make_unique<C>(*loop_, std::move(options));
      made = client.get();
      clients_.push_back(std::move(client));
      made->open();
    });
    return *made;
  }
  // Runs on the swarm's thread; returns when it has run. Not from the swarm's thread.
  void call(const std::function<void()>& work);
  Totals totals();
  size_t open_connections();
  std::vector<Endpoint> local_endpoints();  // of those that are connected
  // How many of the connections that are open have moved no byte since the last call.
  size_t without_progress();
  // Errors: timeout (some are not connected by then), or what the first failed one says.
  Status wait_connected(Duration at_most);
  // All clients complete what is under way. Those that have not by then are given up and counted as stuck.
  Totals wind_down(Duration at_most);

 private:
  Swarm() = default;
  void run(const std::function<Status()>& enter, std::promise<Status> started);
  template <class Condition>
  bool wait_for(Duration at_most, Condition condition);

  std::thread thread_;
  Fd wake_;
  std::mutex mutex_;
  std::vector<std::packaged_task<void()>> tasks_;
  bool stop_ = false;
  std::unique_ptr<net::Loop> loop_;  // from here on: the swarm's thread only
  std::vector<std::unique_ptr<Client>> clients_;
  std::vector<uint64_t> bytes_before_;  // by client, for without_progress
};

}  // namespace gecko::kit
