#include "node/witness.hh"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>

#include "base/log.hh"
#include "node/random64.hh"
#include "node/status_session.hh"

namespace gecko::node {
namespace {
constexpr int kSigns = 3;   // in the time that the service manager waits for one: two may be late, or lost
constexpr Duration kNowAndThen = std::chrono::seconds(2);   // a status on a screen may be as old as that
}  // namespace

Witness::Group::Group(Witness& witness, uint16_t index, const config::GroupConfig& file, std::shared_ptr<net::TlsContext> context, MemberState state)
    : config(file),
      self(static_cast<uint16_t>(file.index_of(witness.options_.node))),
      tls(std::move(context)),
      links(witness.loop_, config, self, witness.incarnation_, tls,
            {.up = [this](Peer& peer) { members.link_up(peer); },
             .frame = [this](Peer& peer, const wire::FrameView& f) { link_frame(*this, peer, f); },
             .down = [this](Peer& peer, const Error&) { members.link_down(peer.index); },
             .load = [] { return wire::Ping{}; },
             .distrusted = [this](Peer& peer) { members.shut_out(peer); }}),
      // It owns nothing and is never contact: nothing follows from a view, and nothing is left of a former life.
      members({witness.loop_, witness.keeper_, config, index, self, links.peers()},
              {.settled = [] { return true; },
               .happened = [](const Happening&) {},
               .view = [](const ViewChange&) {},
               .recovered = [](uint16_t, const core::Owner&) {},
               .lease = [] {},
               .elect = [] {},
               .keyed = [this] { links.keys_changed(); },
               .fence = [](const core::Owner&, const std::function<void()>& done) { done(); }},
              std::move(state)) {}

Witness::Witness(const Options& options, net::Loop& loop, Descriptors descriptors)
    : options_(options),
      loop_(loop),
      incarnation_(random64()),
      descriptors_(std::move(descriptors)),
      keeper_(loop, options,
              {.wanted = [this](std::function<void(Result<Fd>)> answer) { keeper_wanted(answer); },
               .members = [this](size_t group) -> Members& { return groups_[group]->members; },
               .ended = [](size_t) {}}),
      link_listeners_(loop) {}

Witness::~Witness() = default;

Status Witness::start(const std::vector<std::shared_ptr<net::TlsContext>>& contexts) {
  for (uint16_t i = 0; i < options_.groups.size(); ++i) {
    groups_.push_back(std::make_unique<Group>(*this, i, options_.groups[i], contexts[i], std::move(descriptors_.states.at(i))));
    GECKO_CHECK(link_listeners_.add(groups_.back()->links));
  }
  GECKO_CHECK(loop_.watch(descriptors_.status_listener.get(), EPOLLIN, [this](uint32_t) { accept_program(); }));
  for (auto& group : groups_) group->links.start();
  keeper_.start();
  descriptors_.manager.ready(said_ = summary());
  if (descriptors_.manager.listens()) vital_signs();
  return {};
}

Reasons Witness::reasons() const {
  Reasons wrong;
  for (const auto& group : groups_) {
    judge_links(group->config, group->links, wrong);
    const auto contact = group->members.contact();
    if (!contact || contact->node >= group->config.nodes.size())
      wrong.add("group " + group->config.name + ": no contact" + (group->members.view().epoch == 0 ? " yet" : ""));
    judge_membership(group->config, group->members, wrong);
  }
  return wrong;
}

// Without its vote a node's death may not be survived: whoever looks at the service must see that.
std::string Witness::summary() const {
  const auto wrong = reasons();
  return wrong.none() ? "votes on who is a member, serves nothing" : wrong.text();
}

// From the loop that does all the work. Its lease keeper's life is the other nodes' business.
void Witness::vital_signs() {
  auto& manager = descriptors_.manager;
  if (std::string now = summary(); now != said_) manager.status(said_ = std::move(now));
  const bool watched = manager.watchdog() != Duration{};
  if (watched) manager.alive();
  loop_.at(loop_.now() + (watched ? std::min<Duration>(kNowAndThen, manager.watchdog() / kSigns) : kNowAndThen), [this] { vital_signs(); });
}

int Witness::run() {
  loop_.run();
  return exit_code_;
}

// It has one, made while it could still make processes.
void Witness::keeper_wanted(const std::function<void(Result<Fd>)>& answer) {
  if (descriptors_.keeper) return answer(std::move(descriptors_.keeper));
  log_error("the witness's lease keeper has ended, and the witness with it: it votes again when it is started again");
  exit_code_ = 1;
  loop_.stop();
}

void Witness::link_frame(Group& group, Peer& peer, const wire::FrameView& f) {
  const auto understood = group.members.on(peer, f);   // what is about connections is nothing to a witness, and is not read
  if (understood) return;
  log_error("group '" + group.config.name + "': node " + group.config.nodes[peer.index].name + " sent message " + std::to_string(f.type) + ": " +
            understood.error().message);
  group.links.down(peer, understood.error());
}

void Witness::accept_program() {
  for (;;) {
    Fd socket(::accept4(descriptors_.status_listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) return;
    const auto who = net::peer_credentials(socket.get());
    if (!who || !slots_.take(who->uid, who->uid == 0)) continue;
    sessions_.push_back(std::make_unique<StatusSession>(*this, loop_, std::move(socket), *who));
  }
}

void Witness::forget(StatusSession* session) {
  const uint32_t uid = session->who().uid;
  if (sessions_.remove_if([&](const auto& s) { return s.get() == session; }) != 0) slots_.give_back(uid);
}

void Witness::end() {
  descriptors_.manager.stopping();
  loop_.stop();
}

void Witness::reload() {
  descriptors_.manager.reloading();
  for (auto& group : groups_) {
    if (auto ok = group->tls->reload(); !ok) log_error("group '" + group->config.name + "': keys not reloaded: " + ok.error().message);
    else group->links.keys_changed();
  }
  log_info("keys reloaded");
  descriptors_.manager.ready(said_);
}

}  // namespace gecko::node
