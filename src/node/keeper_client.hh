// The unprivileged half's side of wire/keeper.hh: one lease keeper for all groups. Greets it, tells it that geckod lives, hands its words to
// each group's Members, and asks for another one when it has ended.
#pragma once

#include <functional>

#include "net/channel.hh"
#include "node/options.hh"
#include "wire/keeper.hh"

namespace gecko::node {

class Members;

class KeeperClient {
 public:
  struct Events {
    // A connection to the keeper that lives, or to a new one: answered at once, or later.
    std::function<void(std::function<void(Result<Fd>)> answer)> wanted;
    std::function<Members&(size_t)> members;       // of that group
    std::function<void(size_t)> ended;             // before that group's members hear of it: the lease that the keeper wrote lasts a moment longer
  };
  KeeperClient(net::Loop& loop, const Options& options, Events events) : loop_(loop), options_(options), events_(std::move(events)) {}
  ~KeeperClient() { *alive_ = false; }
  void start();
  bool here() const { return here_; }              // greeted and answered
  template <wire::Message M>
  void tell(wire::KeeperType type, const M& message) {
    if (here_) channel_->send(static_cast<uint16_t>(type), message);
  }

 private:
  void ask_for_one();
  void connected(Fd socket);
  void frame(const wire::FrameView& f);
  void on_here(const wire::KeeperHere& m);
  void gone(const Error& error);
  void lives();
  void later();

  net::Loop& loop_;
  const Options& options_;
  const Events events_;
  std::unique_ptr<net::Channel> channel_;
  bool here_ = false, asked_ = false;
  uint64_t sequence_ = 0;
  Time since_{};                                   // when the present one answered
  std::string last_error_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace gecko::node
