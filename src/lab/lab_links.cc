// Links of a lab: what `gecko lab link` does. The wire (wire.hh) carries, the router's rules steer; here both are kept in step.
#include <poll.h>
#include <signal.h>

#include <algorithm>

#include "lab/daemon.hh"
#include "lab/lab.hh"
#include "lab/lab_lock.hh"
#include "lab/link_rules.hh"
#include "lab/net_namespace.hh"
#include "lab/wire.hh"
#include "net/channel.hh"

namespace gecko::lab {
namespace {

constexpr Duration kPatience = std::chrono::seconds(10);  // a wire starts in 10 ms and answers in 1; on a machine full of work it takes its time

// Errors: unavailable (no wire runs), timeout, and what the wire says.
Result<std::vector<LinkReport>> ask_wire(const Lab& lab, const WireQuestion& question) {
  GECKO_TRY(Fd socket, net::unix_connect(wire_socket(lab)));
  net::Loop loop;
  std::optional<Result<WireAnswer>> answer;
  net::Channel channel(
      loop, std::move(socket), [&](const wire::FrameView& frame, std::vector<Fd>&) { answer = wire::decode<WireAnswer>(frame.body); },
      [&](const Error& gone) {
        if (!answer) answer = make_error(Errc::unavailable, "the wire of lab '" + lab.options().name + "' ended without an answer: " + gone.message);
      });
  channel.send(static_cast<uint16_t>(WireType::question), question);
  for (const Time deadline = monotonic_now() + kPatience; !answer;) {
    const Time now = monotonic_now();
    if (now > deadline) return make_error(Errc::timeout, "the wire of lab '" + lab.options().name + "' does not answer: is its process stopped?");
    loop.run_once(deadline - now);
  }
  if (!*answer) return std::move(answer->error());
  if (!(*answer)->error.empty()) return make_error(Errc::internal, (*answer)->error);
  return std::move((*answer)->links);
}

// One answers when this returns.
Status start_wire(const Lab& lab) {
  auto links = ask_wire(lab, {});
  if (links) return {};
  if (links.error().code != Errc::unavailable) return std::move(links.error());
  GECKO_TRY(const std::string gecko, find_program("gecko"));
  SpawnOptions options;
  options.daemon = true;
  options.log_file = lab.directory() + "/wire.log";
  GECKO_TRY(const Process wire, lab.run("router", {gecko, "lab", "wire", "--name", lab.options().name}, std::move(options)));
  for (const Time deadline = monotonic_now() + kPatience; !links && links.error().code == Errc::unavailable; links = ask_wire(lab, {})) {
    const bool dead = ::kill(wire.pid(), 0) != 0;
    if (dead || monotonic_now() > deadline)
      return make_error(Errc::unavailable, std::string("the wire ") + (dead ? "has ended" : "is not ready") + "; the last line of its log, " +
                                               lab.directory() + "/wire.log: " + last_line(lab.directory() + "/wire.log"));
    poll(nullptr, 0, 2);  // its socket is not there yet
  }
  if (!links) return std::move(links.error());
  return {};
}

Status write_rules(const Lab& lab, const std::vector<Direction>& directions, int lock) {
  GECKO_TRY(const Fd router, open_namespace(lab.find("router")->network_namespace));
  auto done = batch({"nft", "-f", "-"}, link_rules(directions), lock, router.get());
  if (!done && done.error().code == Errc::not_found) done.error().message += "; links need nftables (Debian: apt install nftables)";
  return done;
}

std::vector<Direction> directions_of(const std::vector<LinkReport>& links) {
  std::vector<Direction> directions;
  for (const auto& link : links) directions.push_back(link.direction);
  return directions;
}

Result<std::vector<Direction>> between(const Lab& lab, const std::string& from, const std::string& to, bool one_way) {
  for (const auto& host : {from, to})
    if (lab.find(host) == nullptr || host == "router")
      return make_error(Errc::not_found, "'" + host + "' has no links in lab '" + lab.options().name + "': a link is between two of client, n1 to n" +
                                             std::to_string(lab.options().nodes) + (lab.options().witness ? ", w" : ""));
  if (from == to) return make_error(Errc::invalid, "a link is between two hosts, not from " + from + " to itself");
  if (one_way) return std::vector<Direction>{{from, to}};
  return std::vector<Direction>{{from, to}, {to, from}};
}

}  // namespace

Status Lab::link(const std::string& from, const std::string& to, const LinkFaults& faults, bool one_way) const {
  GECKO_CHECK(check_faults(faults));
  GECKO_TRY(const auto directions, between(*this, from, to, one_way));
  GECKO_TRY(const Fd locked, lock_lab(directory()));
  GECKO_CHECK(start_wire(*this));
  auto links = ask_wire(*this, {.clear = {}, .set = directions, .faults = faults});
  if (!links) return std::move(links.error());
  auto steered = write_rules(*this, directions_of(*links), locked.get());
  if (!steered) (void)ask_wire(*this, {.clear = directions, .set = {}, .faults = {}});
  return steered;
}

Status Lab::unlink(const std::string& from, const std::string& to, bool one_way) const {
  GECKO_TRY(const auto directions, between(*this, from, to, one_way));
  return unlink(directions);
}

Status Lab::unlink_all() const { return unlink({}); }

// None: all.
Status Lab::unlink(std::vector<Direction> directions) const {
  GECKO_TRY(const Fd locked, lock_lab(directory()));
  const auto there = links();
  if (!there) {  // dead or stopped, and its links with it: only the rules are left
    if (there.error().code != Errc::unavailable) return there.error();
    GECKO_CHECK(write_rules(*this, {}, locked.get()));
    if (::unlink(wire_socket(*this).c_str()) != 0 && errno != ENOENT) return os_error("remove " + wire_socket(*this));
    return {};
  }
  std::vector<Direction> staying = directions_of(*there);
  if (directions.empty()) directions.swap(staying);
  std::erase_if(staying, [&](const auto& d) { return std::find(directions.begin(), directions.end(), d) != directions.end(); });
  if (staying.size() == there->size()) return {};
  GECKO_CHECK(write_rules(*this, staying, locked.get()));  // first: the wire lets out what it has, and nothing comes after it
  auto done = ask_wire(*this, {.clear = directions, .set = {}, .faults = {}});
  if (!done) return std::move(done.error());
  return {};
}

Result<std::vector<LinkReport>> Lab::links() const {
  const auto nobody = [this] { return access(wire_socket(*this).c_str(), F_OK) != 0; };
  if (nobody()) return std::vector<LinkReport>();
  auto links = ask_wire(*this, {});
  if (links || links.error().code != Errc::unavailable) return links;
  if (nobody()) return std::vector<LinkReport>();  // the last link was just cleared
  return make_error(Errc::unavailable,
                    "the wire of lab '" + options_.name + "' has ended, and what its links should carry is lost; 'gecko lab link --clear' " +
                        "makes them plain again; the last line of " + directory() + "/wire.log: " + last_line(directory() + "/wire.log"));
}

}  // namespace gecko::lab
